// Renews what is live every three seconds, unless somebody works in it or looks elsewhere.
"use strict";
const live = () => document.getElementById("live");
async function renew() {
  if (document.hidden || live().contains(document.activeElement)) return;
  const said = document.getElementById("said");
  try {
    const answer = await fetch(location.href, { cache: "no-store" });
    const next = new DOMParser().parseFromString(await answer.text(), "text/html").getElementById("live");
    if (next && !live().contains(document.activeElement)) live().replaceWith(next);
    said.textContent = "";
  } catch {
    said.textContent = "No answer from the daemon; what you see may be old.";
  }
}
setInterval(renew, 3000);
