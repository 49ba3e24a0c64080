SwaggerUIBundle({
  dom_id: "#docs",
  url: "openapi.json",
  deepLinking: true,
  tryItOutEnabled: true,
  validatorUrl: null, // a server elsewhere
});
