// Piccolo Admin draws every row as a form. Here rows are for reading, so its fields are switched off and what could only
// fail is hidden (see read-only.css). This is for the eye alone: the API behind it refuses to change anything.
function mark() {
  const [, first, second] = location.hash.split("?")[0].split("/");
  const page = !first ? "home" : first === "forms" ? "form" : second ? "row" : "table";
  if (document.body.dataset.page !== page) document.body.dataset.page = page;
  if (page !== "row") return;
  for (const field of document.querySelectorAll("form input, form select, form textarea, form button")) {
    if (!field.disabled) field.disabled = true;
  }
  for (const title of document.querySelectorAll("h1")) {
    if (title.textContent.startsWith("Edit ")) title.textContent = title.textContent.slice(5);
  }
}

new MutationObserver(mark).observe(document.documentElement, { childList: true, subtree: true });

// From a row straight to a row of another table, the page keeps the first table's links to what refers to it.
addEventListener("hashchange", (change) => {
  const [from, to] = [change.oldURL, change.newURL].map((url) => new URL(url).hash.split("?")[0].split("/"));
  if (from[2] && to[2] && from[1] !== to[1]) location.reload();
});
