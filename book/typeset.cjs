// Typesets formulas: {tex, fonts, formulas: [[source, display]]} as JSON on stdin; {html: [...], css} on stdout.
const given = JSON.parse(require("fs").readFileSync(0, "utf8"));
const settings = {
  loader: { versionWarnings: false, load: ["adaptors/liteDOM", "input/tex-full", "output/chtml", "a11y/assistive-mml"] },
  tex: {
    ...given.tex,
    packages: { "[-]": ["noundefined", "noerrors"] },
    formatError(jax, error) {
      throw new Error(error.message);
    },
  },
  chtml: { fontURL: given.fonts },
  startup: { typeset: false },
};

async function main() {
  const MathJax = await require("mathjax").init(settings);
  const adaptor = MathJax.startup.adaptor;
  const html = given.formulas.map(([source, display]) => {
    try {
      return adaptor.outerHTML(MathJax.tex2chtml(source, { display }));
    } catch (error) {
      throw new Error(`a formula cannot be read: ${source}\n${error.message}`);
    }
  });
  process.stdout.write(JSON.stringify({ html, css: adaptor.textContent(MathJax.chtmlStylesheet()) }));
}

main().catch((error) => {
  process.stderr.write(`${error.message || error}\n`);
  process.exitCode = 1;
});
