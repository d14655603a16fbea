// A study goes in, an answer comes out, and the viewer shows it. Who answers: the server, or this device.
import { showAnswer, showModel } from "./viewer.js";

const where = document.body.dataset.answers;
const status = document.getElementById("status");
const problem = document.getElementById("problem");
const input = document.getElementById("files");
const drop = document.getElementById("drop");
const key = document.getElementById("key");
let asked = 0;

/** Returns the headers that show the key, where the service asks for one. */
function credentials() {
  return key.value ? { Authorization: `Bearer ${key.value}` } : {};
}

const answering = import(where === "device" ? "./device.js" : "./server.js");

async function start() {
  try {
    const { readModel } = await answering;
    showModel(await readModel(credentials()));
    problem.textContent = "";
  } catch (error) {
    complain(error);
  }
}

function complain(error) {
  status.textContent = "";
  if (error.status === 401) document.getElementById("keyed").hidden = false;
  problem.textContent = error.message;
}

async function answer(files) {
  if (!files.length) return;
  const turn = ++asked;
  problem.textContent = "";
  document.getElementById("result").hidden = true;
  status.textContent = `Reading ${files.length} file${files.length > 1 ? "s" : ""} …`;
  try {
    const { ask } = await answering;
    const given = await ask(files, credentials(), (text) => {
      if (turn === asked) status.textContent = text;
    });
    if (turn !== asked) return; // another study came meanwhile
    await showAnswer(given);
    document.dispatchEvent(new CustomEvent("answered", { detail: given })); // for scripts beside the page
    status.textContent = `${given.slices.length} slice${given.slices.length > 1 ? "s" : ""} answered.`;
    document.getElementById("result").focus();
  } catch (error) {
    if (turn === asked) complain(error);
  }
}

async function filesOf(entries) {
  const found = [];
  for (const entry of entries) {
    if (entry.isFile) {
      found.push(await new Promise((resolve, reject) => entry.file(resolve, reject)));
    } else {
      const reader = entry.createReader();
      let part;
      do {
        part = await new Promise((resolve, reject) => reader.readEntries(resolve, reject));
        found.push(...(await filesOf(part)));
      } while (part.length);
    }
  }
  return found;
}

input.addEventListener("change", () => answer([...input.files]));
key.addEventListener("change", start);
document.getElementById("study").addEventListener("submit", (event) => event.preventDefault());
for (const name of ["dragover", "drop"]) window.addEventListener(name, (event) => event.preventDefault());
drop.addEventListener("dragover", () => drop.classList.add("over"));
for (const name of ["dragleave", "drop"]) drop.addEventListener(name, () => drop.classList.remove("over"));
drop.addEventListener("drop", async (event) => {
  const entries = [...event.dataTransfer.items].map((item) => item.webkitGetAsEntry?.()).filter(Boolean);
  answer(entries.length ? await filesOf(entries) : [...event.dataTransfer.files]);
});
start();
