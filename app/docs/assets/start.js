// Starts the page's viewer; which one is said by the page itself.
const { viewer, document: url } = document.currentScript.dataset;
const here = document.getElementById("docs");
if (viewer === "swagger") {
  SwaggerUIBundle({
    url,
    domNode: here,
    deepLinking: true,
    persistAuthorization: true,
    validatorUrl: null, // it would ask a server outside
    presets: [SwaggerUIBundle.presets.apis, SwaggerUIBundle.SwaggerUIStandalonePreset].filter(Boolean),
  });
} else if (viewer === "redoc") {
  Redoc.init(url, { disableGoogleFont: true, hideDownloadButton: false, theme: { typography: { fontFamily: "system-ui" } } }, here);
} else {
  Scalar.createApiReference(here, {
    url,
    withDefaultFonts: false,
    telemetry: false,
    agent: { disabled: true },
    mcp: { disabled: true },
    showDeveloperTools: "never",
    hideClientButton: true,
  });
}
