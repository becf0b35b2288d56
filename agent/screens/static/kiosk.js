"use strict";
/* Shows the dock as the service tells it now. Once the service doesn't answer, nothing on the screen counts as done. */
const LIMIT_MS = 4000, EVERY_MS = 2000, PAUSE_MS = 300, IDLE_MS = 150000, TELL_MS = 20000;
let asking = false, again = false;

/* The dock's screen is the same for everybody: without the cookie, a screen that renews itself can't keep the session of
   an officer alive who has gone. A room shows pictures to who has signed in: it says that nobody did anything. */
const { kiosk: shown } = document.body.dataset;
const asked = shown ? { headers: { "X-Renewal": "1" } } : { credentials: "omit" };

/* A picture gives way once the next one is there, so that it doesn't flicker. */
function swap(old, fresh) {
  const next = document.importNode(fresh, true);
  next.decode().then(() => old.replaceWith(next), () => old.replaceWith(next));
}
/* What is the same stays the same element, so that a finger on it still hits it. */
function take(old, fresh) {
  if (old.isEqualNode(fresh)) return;
  if (old.tagName === "IMG" && fresh.tagName === "IMG") { swap(old, fresh); return; }
  if (old.hasAttribute("data-parts") && old.children.length === fresh.children.length)
    Array.from(fresh.children).forEach((part, place) => take(old.children[place], part));
  else old.replaceWith(fresh);
}
const stale = (is) => document.body.classList.toggle("stale", is);
async function renew() {
  if (asking) { again = true; return; }
  asking = true;
  try {
    const answer = await fetch(shown ? location.href : "/kiosk", { cache: "no-store", signal: AbortSignal.timeout(LIMIT_MS), ...asked });
    if (answer.redirected) { location.reload(); return; }  // who is out leaves the page
    if (!answer.ok) throw new Error(String(answer.status));
    const fresh = new DOMParser().parseFromString(await answer.text(), "text/html").getElementById("live");
    take(document.getElementById("live"), fresh);
    stale(false);
  } catch { stale(true); }
  setTimeout(() => { asking = false; if (again) { again = false; renew(); } }, PAUSE_MS);
}
function follow() {
  const events = new EventSource("/api/v1/events");
  events.onopen = renew;
  events.onerror = () => { stale(true); if (events.readyState === EventSource.CLOSED) setTimeout(follow, LIMIT_MS); };
  events.addEventListener("slots", renew);
}
/* Who has gone leaves nothing on the screen, and no session; who is writing keeps his, though he sends nothing yet. */
function leave_when_idle() {
  let timer, told_ms = Date.now();
  async function leave() {
    const form = new URLSearchParams(new FormData(document.getElementById("leave")));
    document.getElementById("main").hidden = true;
    try { await fetch("/logout", { method: "POST", body: form }); } catch { setTimeout(leave, LIMIT_MS); return; }
    location.replace(document.body.dataset.idle || "/kiosk");  // also when the session was over before, or the service is another one now
  }
  const again_later = () => {
    clearTimeout(timer);
    timer = setTimeout(leave, IDLE_MS);
    if (Date.now() - told_ms < TELL_MS) return;
    told_ms = Date.now();
    fetch("/healthz", { cache: "no-store" }).catch(() => {});
  };
  for (const name of ["input", "pointerdown", "keydown", "scroll"]) addEventListener(name, again_later, { passive: true });
  again_later();
}
function add_line(button) {
  const text = document.getElementById(button.dataset.to), lines = text.value.split("\n").filter(Boolean);
  if (!lines.includes(button.dataset.add)) text.value = [...lines, button.dataset.add].join("\n");
}
if ("kiosk" in document.body.dataset) { follow(); setInterval(renew, EVERY_MS); }
if ("idle" in document.body.dataset) leave_when_idle();
for (const button of document.querySelectorAll("[data-add]")) button.addEventListener("click", () => add_line(button));
for (const button of document.querySelectorAll("[data-print]")) button.addEventListener("click", () => print());
