SwaggerUIBundle({
  dom_id: "#docs",
  url: "openapi.json",
  deepLinking: true,
  tryItOutEnabled: true,
  validatorUrl: null, // the default sends the description to a public server
});
