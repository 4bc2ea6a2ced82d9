// Docutils marks a bibliography as a list whose entries are not list items: screen readers then announce an empty list.
for (const list of document.querySelectorAll(".citation-list[role='list']")) list.removeAttribute("role");
// A folded cell is named by its visible words ("Show code cell source"), not by MyST-NB's other ones.
document.querySelectorAll("details.hide > summary[aria-label]").forEach((summary) => summary.removeAttribute("aria-label"));
// A wide formula is shown from its beginning.
addEventListener("load", async () => {
  await window.MathJax?.startup?.promise;
  for (const formula of document.querySelectorAll("div.math, mjx-container[display='true']")) formula.scrollLeft = 0;
});
