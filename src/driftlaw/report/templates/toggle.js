(function () {
  var root = document.documentElement, button = document.getElementById("theme");
  if (!button) return;
  button.hidden = false;
  function dark() {
    var chosen = root.getAttribute("data-theme");
    return chosen ? chosen === "dark" : matchMedia("(prefers-color-scheme: dark)").matches;
  }
  function label() { button.textContent = dark() ? "Light" : "Dark"; button.setAttribute("aria-pressed", String(dark())); }
  button.addEventListener("click", function () { root.setAttribute("data-theme", dark() ? "light" : "dark"); label(); });
  label();
})();
