// What scrolls sideways can be reached by keyboard.
const reach = () => {
  for (const place of document.querySelectorAll(".bd-article :is(pre, mjx-container[display], .text_html, .pst-scrollable-table-container)")) {
    if (place.scrollWidth > place.clientWidth) place.tabIndex = 0;
    else place.removeAttribute("tabindex");
  }
};
addEventListener("load", reach);
addEventListener("resize", reach);
