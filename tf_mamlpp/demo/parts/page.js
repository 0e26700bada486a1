// Gradio gives: `element` (the page's part), `props.value` (what board.py shows), `trigger` (asks the server), `watch`.
const find = (selector) => element.querySelector(selector);
const on = (selector, event, does) => find(selector).addEventListener(event, does);
const canvas = find("canvas"), file = find(".file"), video = find("video"), marker = find(".pen"), dark = find(".dark");
const brush = canvas.getContext("2d", { willReadFrequently: true });
let asked = null; // the picture on the paper, as it is sent
let isKept = true; // whether all that was taught is in a file too

// --- The server and files ---------------------------------------------------------------------------------

function send(action, details = {}) {
  if (["add", "remove", "rename", "remove_class"].includes(action)) isKept = false;
  trigger("act", { action, details, turn: props.value.turn });
}

function tell(error) {
  find(".error").textContent = error ?? "";
  find(".error").hidden = !error;
  if (error) find(".error").scrollIntoView({ block: "nearest" });
}

const base64 = (address) => address.slice(address.indexOf(",") + 1);

function read(blob) {
  return new Promise((done, failed) => {
    const reader = new FileReader();
    reader.onload = () => done({ name: blob.name || "a picture", content: base64(reader.result) });
    reader.onerror = () => failed(reader.error);
    reader.readAsDataURL(blob);
  }).catch((error) => tell(`${blob.name}: cannot be read (${error.message})`));
}

const readAll = async (blobs) => (await Promise.all([...blobs].map(read))).filter(Boolean);

function choose(accept, multiple, does) {
  const input = Object.assign(document.createElement("input"), { type: "file", accept, multiple });
  input.onchange = () => does(input.files);
  input.click();
}

function download({ name, content }) {
  const bytes = Uint8Array.from(atob(content), (letter) => letter.charCodeAt(0));
  const link = Object.assign(document.createElement("a"), { download: name });
  link.href = URL.createObjectURL(new Blob([bytes]));
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 60000);
  isKept = true;
}

// --- The paper --------------------------------------------------------------------------------------------

const ink = () => (dark.checked ? "#fff" : "#000");
const paper = () => (dark.checked ? "#000" : "#fff");

function prepare() {
  const [width, height] = props.value.size, scale = Math.max(1, Math.round(280 / Math.max(width, height)));
  canvas.width = width * scale;
  canvas.height = height * scale;
  dark.checked = props.value.dark;
  blank();
}

function blank() {
  stopCamera();
  brush.fillStyle = paper(); // not clearRect: transparent paper would come out black or white as the reader likes
  brush.fillRect(0, 0, canvas.width, canvas.height);
  file.hidden = true;
  asked = null;
  find(".paper").classList.add("blank");
}

function clear() {
  blank();
  send("ask", { picture: null });
}

function ask(picture) {
  asked = picture;
  send("ask", { picture });
}

const askDrawing = () => ask({ name: "your drawing", content: base64(canvas.toDataURL("image/png")) });

async function askFile(blobs) {
  const [picture] = await readAll([...blobs].slice(0, 1));
  if (!picture) return;
  blank();
  showFile(`data:;base64,${picture.content}`, picture.name);
  ask(picture);
}

function showFile(address, name) {
  Object.assign(file, { src: address, alt: name, hidden: false });
  find(".paper").classList.remove("blank");
}

function line(from, to) {
  if (!file.hidden || !video.hidden) blank();
  find(".paper").classList.remove("blank");
  brush.strokeStyle = ink();
  brush.lineWidth = Math.max(canvas.width, canvas.height) / 21; // as thick as Omniglot's
  brush.lineCap = brush.lineJoin = "round";
  brush.beginPath();
  brush.moveTo(from.x, from.y);
  brush.lineTo(to.x, to.y);
  brush.stroke();
}

// --- Pointer and keys -------------------------------------------------------------------------------------

let stroke = null; // where the pointer was last
const pen = { x: 0, y: 0, isDown: false }; // of the keys
let later = 0;

function place(event) {
  const box = canvas.getBoundingClientRect();
  return {
    x: ((event.clientX - box.left) * canvas.width) / box.width,
    y: ((event.clientY - box.top) * canvas.height) / box.height,
  };
}

canvas.addEventListener("pointerdown", (event) => {
  if (!event.isPrimary || event.button !== 0) return;
  canvas.setPointerCapture(event.pointerId);
  stroke = place(event);
  line(stroke, stroke);
});

canvas.addEventListener("pointermove", (event) => {
  if (!stroke || !event.isPrimary) return;
  for (const part of event.getCoalescedEvents?.() ?? [event]) {
    const next = place(part);
    line(stroke, next);
    stroke = next;
  }
});

for (const end of ["pointerup", "pointercancel"]) {
  canvas.addEventListener(end, (event) => {
    if (!stroke || !event.isPrimary) return;
    stroke = null;
    askDrawing();
  });
}

const ARROWS = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] };

canvas.addEventListener("keydown", (event) => {
  if (event.key in ARROWS) move(...ARROWS[event.key], event.shiftKey ? 4 : 1);
  else if (event.key === " ") toggle();
  else if (["Delete", "Backspace", "Escape"].includes(event.key)) clear();
  else return;
  event.preventDefault();
  mark();
});

function move(right, down, steps) {
  const step = (steps * Math.max(canvas.width, canvas.height)) / 28, before = { ...pen };
  pen.x = Math.min(canvas.width, Math.max(0, pen.x + right * step));
  pen.y = Math.min(canvas.height, Math.max(0, pen.y + down * step));
  if (!pen.isDown) return;
  line(before, pen);
  clearTimeout(later);
  later = setTimeout(askDrawing, 200);
}

function toggle() {
  pen.isDown = !pen.isDown;
  if (pen.isDown) line(pen, pen);
  else askDrawing();
}

function mark() {
  marker.hidden = !canvas.matches(":focus-visible");
  marker.classList.toggle("down", pen.isDown);
  marker.style.left = `${(100 * pen.x) / canvas.width}%`;
  marker.style.top = `${(100 * pen.y) / canvas.height}%`;
}

canvas.addEventListener("focus", () => {
  Object.assign(pen, { x: canvas.width / 2, y: canvas.height / 2, isDown: false });
  mark();
});
canvas.addEventListener("blur", () => (marker.hidden = true));

dark.addEventListener("change", () => {
  brush.globalCompositeOperation = "difference"; // inverts
  brush.fillStyle = "#fff";
  brush.fillRect(0, 0, canvas.width, canvas.height);
  brush.globalCompositeOperation = "source-over";
  if (asked && file.hidden) askDrawing();
});

// --- The camera -------------------------------------------------------------------------------------------

async function startCamera() {
  let stream;
  try {
    stream = await navigator.mediaDevices.getUserMedia({ video: { facingMode: "environment" } });
  } catch (error) {
    return tell(`The camera cannot be used: ${error.message}.`);
  }
  clear();
  video.srcObject = stream;
  video.hidden = find(".take").hidden = false;
  find(".camera").textContent = "Camera off";
  await video.play();
}

function stopCamera() {
  video.srcObject?.getTracks().forEach((track) => track.stop());
  video.srcObject = null;
  video.hidden = find(".take").hidden = true;
  find(".camera").textContent = "Camera";
}

function take() {
  const shot = document.createElement("canvas"), { videoWidth, videoHeight } = video;
  const scale = Math.min(videoWidth / canvas.width, videoHeight / canvas.height); // of the part that is shown
  const width = canvas.width * scale, height = canvas.height * scale;
  Object.assign(shot, { width: Math.round(width), height: Math.round(height) });
  const left = (videoWidth - width) / 2, top = (videoHeight - height) / 2;
  shot.getContext("2d").drawImage(video, left, top, width, height, 0, 0, shot.width, shot.height);
  const address = shot.toDataURL("image/png");
  blank();
  showFile(address, "the camera's picture");
  ask({ name: "the camera's picture", content: base64(address) });
}

find(".camera").hidden = !navigator.mediaDevices?.getUserMedia;

// --- The classes ------------------------------------------------------------------------------------------

function addAsked(index) {
  if (!asked) return tell("There is no picture to add: draw or drop one first.");
  send("add", { index, pictures: [asked], is_asked: true });
  blank();
}

async function addFiles(index, blobs) {
  const pictures = await readAll(blobs);
  if (pictures.length) send("add", { index, pictures });
}

function newRow(index) {
  const row = find("template.row").content.firstElementChild.cloneNode(true);
  const part = (selector) => row.querySelector(selector), name = part("input");
  name.addEventListener("change", () => send("rename", { index, name: (name.dataset.sent = name.value) }));
  part(".add").addEventListener("click", () => addAsked(index));
  part(".files").addEventListener("click", () => choose("image/*", true, (blobs) => addFiles(index, blobs)));
  part(".forget").addEventListener("click", () => {
    name.focus();
    send("remove_class", { index });
  });
  part(".pictures").addEventListener("click", (event) => {
    const position = [...part(".pictures").children].indexOf(event.target.closest("button"));
    if (position < 0) return;
    part(".add").focus();
    send("remove", { index, position });
  });
  takeDrops(row, (blobs) => addFiles(index, blobs));
  return row;
}

function thumbnail(address, number, name) {
  const button = Object.assign(document.createElement("button"), { type: "button", title: "Take this picture away" });
  button.setAttribute("aria-label", `Take away picture ${number + 1} of ${name}`);
  button.append(Object.assign(document.createElement("img"), { src: address, alt: "" }));
  return button;
}

function fillRow(row, shown, view) {
  const part = (selector) => row.querySelector(selector), name = part("input");
  const { seen, sent } = name.dataset, isTyping = name === document.activeElement && ![seen, sent].includes(name.value);
  if (!isTyping) name.value = name.dataset.seen = shown.name;
  name.setAttribute("aria-label", `Name of class ${shown.name}`);
  for (const [selector, does] of [[".add", "Add the picture to"], [".files", "Add files to"], [".forget", "Forget"]])
    part(selector).setAttribute("aria-label", `${does} ${shown.name}`);
  part(".forget").hidden = !view.any_way && !shown.pictures.length;
  const key = JSON.stringify([shown.name, shown.pictures]);
  if (row.dataset.key !== key) {
    row.dataset.key = key;
    const thumbnails = shown.pictures.map((address, number) => thumbnail(address, number, shown.name));
    part(".pictures").replaceChildren(...thumbnails);
  }
  row.style.setProperty("--colour", shown.colour);
  row.classList.toggle("best", Boolean(view.answer.is_known) && view.answer.label === shown.name);
  part(".chance").hidden = shown.probability === null;
  part(".bar div").style.width = `${100 * (shown.probability ?? 0)}%`;
  part(".chance span").textContent = `${(100 * (shown.probability ?? 0)).toFixed(1)} %`;
}

// --- All of it --------------------------------------------------------------------------------------------

function render() {
  const view = props.value, rows = find(".classes");
  find("h1").textContent = view.title;
  find(".about").textContent = view.about;
  find(".status").textContent = view.status;
  while (rows.children.length < view.classes.length) rows.append(newRow(rows.children.length));
  while (rows.children.length > view.classes.length) rows.lastElementChild.remove();
  view.classes.forEach((shown, index) => fillRow(rows.children[index], shown, view));
  rows.classList.toggle("unknown", view.answer.is_known === false);
  find(".more").hidden = !view.any_way;
  find(".save").disabled = !view.ready;
  showAnswer(view);
  tell(view.error);
  if (view.file) download(view.file);
}

function showAnswer({ answer, picture, error }) {
  find(".seen").hidden = !picture;
  if (picture) find(".seen").src = picture;
  for (const part of ["label", "chance", "detail"]) find(`.answer .${part}`).textContent = answer[part];
  if (file.hidden) return;
  if (error && !picture) blank(); // it could not be read
  else if (!file.naturalWidth && picture) file.src = picture; // of a kind that browsers do not show
}

function takeDrops(target, does) {
  const mark = (event) => {
    event.preventDefault();
    target.classList.toggle("drop", event.type === "dragover");
  };
  for (const kind of ["dragover", "dragleave", "drop"]) target.addEventListener(kind, mark);
  target.addEventListener("drop", (event) => event.dataTransfer.files.length && does(event.dataTransfer.files));
}

const mayReplace = (question) => isKept || confirm(question);

on(".clear", "click", clear);
on(".choose", "click", () => choose("image/*", false, askFile));
on(".camera", "click", () => (video.hidden ? startCamera() : stopCamera()));
on(".take", "click", take);
on(".more", "click", () => send("add_class"));
on(".save", "click", () => send("save"));
on(".load", "click", () => {
  if (!mayReplace("A file's classes take the place of those here. Go on?")) return;
  choose(".npz", false, async ([blob]) => {
    const loaded = blob && (await read(blob));
    if (loaded) send("load", { file: loaded });
  });
});
on(".reset", "click", () => {
  if (!mayReplace("Forget all classes and pictures?")) return;
  blank();
  isKept = true;
  send("reset");
});
takeDrops(find(".paper"), askFile);
for (const kind of ["dragover", "drop"]) document.addEventListener(kind, (event) => event.preventDefault());
document.addEventListener("paste", (event) => {
  const pasted = [...(event.clipboardData?.files ?? [])].filter((blob) => blob.type.startsWith("image/"));
  if (pasted.length) askFile(pasted);
});
window.addEventListener("beforeunload", (event) => isKept || event.preventDefault());
watch("value", render);
prepare();
render();
