// Draws the charts in the colours of the reader's scheme, again when it changes.
(() => {
  "use strict";
  const kept = JSON.parse(document.getElementById("charts").textContent);
  // printed on paper the scheme is the light one
  const dark = matchMedia("screen and (prefers-color-scheme: dark)");
  const narrow = matchMedia("(max-width: 640px)");

  // colours are names under keys that speak of colour
  function paint(value, palette, coloured) {
    if (typeof value === "string") {
      return coloured && Object.hasOwn(palette, value) ? palette[value] : value;
    }
    if (Array.isArray(value)) return value.map((each) => paint(each, palette, coloured));
    if (value === null || typeof value !== "object") return value;
    return Object.fromEntries(
      Object.entries(value).map(([key, each]) => [key, paint(each, palette, /color/.test(key))]),
    );
  }

  function put(layout, path, value) {
    const keys = path.split(".");
    const last = keys.pop();
    let inner = layout;
    for (const key of keys) inner = inner[key] ??= {};
    inner[last] = value;
  }

  function draw() {
    const palette = dark.matches ? kept.dark : kept.light;
    for (const [id, figure] of Object.entries(kept.figures)) {
      const place = document.getElementById(id);
      const layout = paint(figure.layout, palette, false);
      if (narrow.matches) {
        for (const [path, value] of Object.entries(figure.narrow)) put(layout, path, value);
        // a finger that drags scrolls the page
        layout.dragmode = false;
        layout.xaxis.fixedrange = layout.yaxis.fixedrange = true;
      }
      place.style.height = `${layout.height}px`;
      Plotly.react(place, paint(figure.data, palette, false), layout, {
        responsive: true,
        displaylogo: false,
        displayModeBar: layout.dragmode === "zoom" ? "hover" : false,
        modeBarButtonsToRemove: ["select2d", "lasso2d", "autoScale2d"],
      });
    }
    document.documentElement.dataset.drawn = dark.matches ? "dark" : "light";
  }

  draw();
  dark.addEventListener("change", draw);
  narrow.addEventListener("change", draw);
  addEventListener("beforeprint", () => {
    for (const each of document.querySelectorAll("details")) each.open = true;
  });
})();
