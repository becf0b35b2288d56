"use strict";
/* Keeps what is marked data-live as the server would render it now: it asks for the page again after each change in the
   journal, never more than one question at a time, and says so at once when the service doesn't answer. An answer may be
   half a second older than the change that it was asked for, so it asks once more. */
const lost = document.getElementById("lost");
let asking = false, again = false;

function old(is) {
  if (lost) lost.hidden = !is;
  document.querySelectorAll("[data-live]").forEach((part) => part.classList.toggle("old", is));
}
const named = (node) => node.getAttribute("href") || node.getAttribute("aria-label");
/* Who reads by keyboard stays where he is: the same link or table has the focus afterwards. */
function show(part, now) {
  const at = part.contains(document.activeElement) ? named(document.activeElement) : null;
  part.innerHTML = now.innerHTML;
  if (at) [...part.querySelectorAll("a, [tabindex]")].find((node) => named(node) === at)?.focus({ preventScroll: true });
}
async function renew() {
  if (asking) { again = true; return; }
  asking = true;
  try {
    const answer = await fetch(location.href, { cache: "no-store", headers: { Accept: "text/html", "X-Renewal": "1" } });
    if (answer.redirected) { location.reload(); return; }
    if (!answer.ok) throw new Error(String(answer.status));
    const fresh = new DOMParser().parseFromString(await answer.text(), "text/html");
    for (const part of document.querySelectorAll("[data-live]")) {
      const now = fresh.getElementById(part.id);
      if (now && now.innerHTML !== part.innerHTML) show(part, now);
    }
    old(false);
  } catch { old(true); }
  const more = document.querySelector("[data-busy]") !== null;
  setTimeout(() => { asking = false; if (again || more) { again = false; renew(); } }, more ? 2000 : 1000);
}
function follow() {
  const events = new EventSource("/api/v1/events");
  const news = () => { renew(); again = true; };
  events.onopen = () => { news(); old(false); };  // what changed before is told to nobody
  events.onerror = () => {
    old(true);
    if (events.readyState === EventSource.CLOSED) { renew(); setTimeout(follow, 5000); }  // who is out leaves the page
  };
  for (const name of ["slots", "journal", "reset"]) events.addEventListener(name, news);
}
/* That the page renews itself keeps nobody signed in; that somebody reads, writes or watches does. */
let told_ms = Date.now();
function here() {
  if (Date.now() - told_ms < 60000) return;
  told_ms = Date.now();
  fetch("/healthz", { cache: "no-store" }).catch(() => {});
}
for (const name of ["input", "keydown", "pointerdown", "wheel", "timeupdate"])
  addEventListener(name, here, { capture: true, passive: true });
if (document.querySelector("[data-live]")) { follow(); setInterval(renew, 30000); }
