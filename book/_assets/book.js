// Docutils marks a bibliography as a list whose entries are not list items: screen readers then announce an empty list.
for (const list of document.querySelectorAll(".citation-list[role='list']")) list.removeAttribute("role");
