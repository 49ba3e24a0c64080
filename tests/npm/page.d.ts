// What the page's scripts find in their global scope beside the DOM: plotly, as far as they use it.
// The types of the API's answers are generated from its OpenAPI description, see test_page_scripts.py.

interface Plotly {
  react(element: HTMLElement, traces: object[], layout: object, config: object): Promise<void>;
}

interface PlotlyElement extends HTMLElement {
  on(event: "plotly_relayout", handler: (change: Record<string, string>) => void): void;
  on(event: "plotly_click", handler: (click: { points: { x: string }[] }) => void): void;
}

interface Window {
  Plotly: Plotly;
}
