// What scrolls sideways can be reached by keyboard.
const reach = () => {
  for (const place of document.querySelectorAll(".bd-article :is(pre, mjx-container[display], .text_html, .still, .pst-scrollable-table-container)")) {
    if (place.scrollWidth > place.clientWidth) place.tabIndex = 0;
    else place.removeAttribute("tabindex");
  }
};
addEventListener("load", reach);
addEventListener("resize", reach);
addEventListener("toggle", reach, true); // of a fold, which does not bubble: closed, nothing in it has a width

// On paper the theme is light, and all answers are open, also those of which one closes another; afterwards all is as it was.
const page = document.documentElement;
let before = null;
function toPaper() {
  if (before) return;
  const closed = [...document.querySelectorAll("details:not([open], .tag_hide-input > *)")];
  const named = [...document.querySelectorAll("details[name]")].map((answer) => [answer, answer.getAttribute("name")]);
  before = { theme: page.dataset.theme, closed, named };
  page.dataset.theme = "light";
  for (const [answer] of named) answer.removeAttribute("name");
  for (const answer of closed) answer.open = true;
}
function toScreen() {
  if (!before) return;
  page.dataset.theme = before.theme;
  for (const answer of before.closed) answer.open = false;
  for (const [answer, name] of before.named) answer.setAttribute("name", name);
  before = null;
}
addEventListener("beforeprint", toPaper);
addEventListener("afterprint", toScreen);
matchMedia("print").addEventListener("change", ({ matches }) => (matches ? toPaper() : toScreen()));
