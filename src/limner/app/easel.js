// An easel: strokes of mouse, pen or finger, sent as PNG when one ends and, on a live easel, while it
// is drawn. In the mode "erase" strokes mark what is missing and leave the picture alone.
const erasing = props.mode === "erase";
const paper = element.querySelector(".paper").getContext("2d");
const mask = element.querySelector(".mask").getContext("2d");
const board = mask.canvas;
const brush = element.querySelector(".brush input");
const colour = element.querySelector(".colour input");
const { width, height } = board;
let fit = true, blank = true, last = null, waiting = 0;
element.querySelector(".easel").classList.toggle("grey", !props.colour);

function wipe(context, ground) {
  context.clearRect(0, 0, width, height);
  if (!ground) return;
  context.fillStyle = ground;
  context.fillRect(0, 0, width, height);
}
function reset() {
  wipe(paper, "#000");
  wipe(mask);
  fit = blank = true;
}
function erased() {
  const copy = document.createElement("canvas");
  Object.assign(copy, { width, height });
  const context = copy.getContext("2d");
  wipe(context, "#000");
  context.drawImage(board, 0, 0);
  return copy.toDataURL("image/png");
}
function send(live = false) {
  clearTimeout(waiting);
  waiting = 0;
  const picture = paper.canvas.toDataURL("image/png");
  props.value = blank ? null : { picture, erased: erasing ? erased() : "", fit, live };
}
function show(image) {
  const scale = Math.min(width / image.width, height / image.height);
  const size = [image.width * scale, image.height * scale];
  reset();
  paper.imageSmoothingEnabled = scale < 1;
  paper.drawImage(image, (width - size[0]) / 2, (height - size[1]) / 2, ...size);
  blank = false;
}
function place(event) {
  const box = board.getBoundingClientRect();
  return [(event.clientX - box.left) / box.width * width,
          (event.clientY - box.top) / box.height * height];
}
function stroke(from, to) {
  const context = erasing ? mask : paper;
  context.lineCap = "round";
  context.lineWidth = brush.value;
  context.strokeStyle = erasing ? "#ff9f1c" : props.colour ? colour.value : "#fff";
  context.beginPath();
  context.moveTo(...from);
  context.lineTo(...to);
  context.stroke();
}
board.addEventListener("pointerdown", (event) => {
  if (event.button !== 0 || (erasing && blank)) return;
  event.preventDefault();
  board.focus({ preventScroll: true });
  board.setPointerCapture(event.pointerId);
  last = place(event);
  blank = false;
  stroke(last, last);
});
board.addEventListener("pointermove", (event) => {
  if (!last) return;
  const passed = event.getCoalescedEvents?.() ?? [];
  for (const point of passed.length ? passed : [event]) {
    const next = place(point);
    stroke(last, next);
    last = next;
  }
  if (props.live && !waiting) waiting = setTimeout(send, 100, true);
});
for (const name of ["pointerup", "pointercancel"])
  board.addEventListener(name, () => {
    if (last) send();
    last = null;
  });
element.querySelector(".clear").addEventListener("click", () => {
  if (erasing) wipe(mask);
  else reset();
  send();
});
element.querySelector(".example").addEventListener("click", () => trigger("submit"));
const file = element.querySelector(".file input");
file.addEventListener("change", async () => {
  if (!file.files.length) return;
  try {
    const image = await createImageBitmap(file.files[0]);
    show(image);
    fit = !erasing;
    image.close();
    send();
  } catch {
    alert("This file is no picture that the browser can read.");
  }
  file.value = "";
});
function update() {
  if (last) return;
  if (!props.value) return reset();
  const { picture, fit: placed } = props.value;
  const image = new Image();
  image.onload = () => { show(image); fit = placed; };
  image.src = picture;
}
watch("value", update);
update(); // an easel in another tab is made when it is first seen, and may have a picture by then
