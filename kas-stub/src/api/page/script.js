// Makes the page live: ages count on, and what the server says has changed is fetched anew. Without this file every
// page still works, by reloading.
"use strict";

const span = (seconds) => {
  if (seconds < 60) return `${seconds} s`;
  if (seconds < 3600) return `${Math.floor(seconds / 60)} min`;
  if (seconds < 86400) return `${Math.floor(seconds / 3600)} h`;
  return `${Math.floor(seconds / 86400)} d`;
};

// Times are the server's: its clock may differ from this one, so ages count from what it wrote.
let drawn = performance.now();
const ages = () => {
  const passed = Math.floor((performance.now() - drawn) / 1000);
  for (const time of document.querySelectorAll("time[data-seconds]")) {
    const seconds = Number(time.dataset.seconds);
    time.textContent = time.dataset.ahead
      ? (seconds > passed ? `in ${span(seconds - passed)}` : "now")
      : `${span(seconds + passed)} ago`;
  }
};
setInterval(ages, 1000);

let busy = false;
let again = false;
const refresh = async () => {
  if (busy) {
    again = true;
    return;
  }
  busy = true;
  try {
    const answer = await fetch(location.href, { headers: { Accept: "text/html" } });
    if (answer.redirected || answer.status === 401) location.reload();
    const next = new DOMParser().parseFromString(await answer.text(), "text/html").getElementById("live");
    const live = document.getElementById("live");
    if (next && live) {
      const focused = document.activeElement && document.activeElement.id;
      live.replaceChildren(...next.childNodes);
      drawn = performance.now();
      if (focused) document.getElementById(focused)?.focus();
    }
  } catch {
    // The server is away; the events tell when it is back.
  }
  busy = false;
  if (again) {
    again = false;
    refresh();
  }
};

if (document.getElementById("live")) {
  const events = new EventSource("/live");
  events.addEventListener("changed", refresh);
}

document.addEventListener("submit", (event) => {
  const form = event.target;
  const button = form.querySelector("button");
  const question = button?.dataset.question;
  if (question && !confirm(question)) {
    event.preventDefault();
    return;
  }
  if (!button) return;
  button.disabled = true;
  const waiting = form.dataset.waiting;
  if (waiting) {
    const since = performance.now();
    setInterval(() => {
      button.textContent = `${waiting}, ${span(Math.floor((performance.now() - since) / 1000))}`;
    }, 200);
  }
});
