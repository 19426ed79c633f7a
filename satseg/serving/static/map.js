// Shows the map that the document holds as data, and lets its opacity be chosen: no script is written into the page.
"use strict";

document.addEventListener("DOMContentLoaded", async () => {
  const item = JSON.parse(document.getElementById("item").textContent);
  const place = document.getElementById("map");
  await Bokeh.embed.embed_item(item, place);
  const { glyph } = Bokeh.documents[0].get_model_by_name(place.dataset.pictured);
  document.getElementById("opacity").addEventListener("input", (event) => {
    glyph.global_alpha = { value: Number(event.target.value) };
  });
});
