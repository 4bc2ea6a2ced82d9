// Excerpts under the hits of a search come from search_texts.js: a page may not be fetched from a disk.
(() => {
  "use strict";
  const nameOf = (address) => new URL(address, new URL(document.documentElement.dataset.content_root, location)).pathname;
  const named = new Map(Object.entries(PAGE_TEXTS).map(([page, texts]) => [nameOf(page), texts]));
  const fetchElsewhere = window.fetch;
  window.fetch = (address, ...rest) =>
    named.has(nameOf(address)) ? Promise.resolve(new Response(nameOf(address))) : fetchElsewhere(address, ...rest);
  Search.htmlToText = (page, anchor) => named.get(page)[anchor || ""] ?? named.get(page)[""];
})();
