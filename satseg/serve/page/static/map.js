// Shows the map embedded in the document, with the classes and the opacity chosen in the parent page.
"use strict";

const TILE_TIMEOUT = 10000; // milliseconds for the first tile of the base map

function followLook(place, mapper, glyph) {
  const around = window.parent.document.getElementById(place.dataset.look);
  const follow = () => {
    const look = around?.querySelector("[data-opacity]");
    if (!look) return;
    const shown = new Set(look.dataset.shown.split(" "));
    mapper.palette = mapper.palette.map((colour, index) => colour.slice(0, 7) + (shown.has(String(index)) ? "ff" : "00"));
    glyph.global_alpha = { value: Number(look.dataset.opacity) };
    for (const entry of document.querySelectorAll("[data-class]")) {
      entry.classList.toggle("off", !shown.has(entry.dataset.class));
    }
  };
  follow();
  if (around) new MutationObserver(follow).observe(around, { childList: true, subtree: true, attributes: true });
}

function warnWithoutTiles(place) {
  const warning = document.getElementById("no-tiles");
  const tile = new Image();
  const late = setTimeout(() => { warning.hidden = false; }, TILE_TIMEOUT);
  tile.onload = () => { clearTimeout(late); warning.hidden = true; };
  tile.onerror = () => { clearTimeout(late); warning.hidden = false; };
  tile.src = place.dataset.tile;
}

document.addEventListener("DOMContentLoaded", async () => {
  const item = JSON.parse(document.getElementById("item").textContent);
  const place = document.getElementById("map");
  warnWithoutTiles(place);
  await Bokeh.embed.embed_item(item, place);
  const made = Bokeh.documents[0];
  followLook(place, made.get_model_by_name(place.dataset.colours), made.get_model_by_name(place.dataset.pictured).glyph);
});
