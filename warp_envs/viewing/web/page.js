// Plays the rollouts that warp_envs/viewing/page.py wrote into this page. Nothing is loaded from elsewhere.

const $ = (id) => document.getElementById(id);
const scenes = JSON.parse($("rollouts").textContent);
const SPEEDS = [0.1, 0.25, 0.5, 1, 2, 4];
const playback = { time: 0, speed: 1, playing: true, shown: -1 };
// One clock for all: the frames of the finest recording, to the end of the longest.
const clock = { fps: Math.max(...scenes.map(({ fps }) => fps)) };
clock.last = Math.max(...scenes.map(({ fps, frames }) => Math.round(((frames - 1) * clock.fps) / fps)));

// Numbers -------------------------------------------------------------------------------------

/** The float32 numbers of the recordings, from gzip in base64. */
async function unpack(text) {
  const packed = await (await fetch("data:application/octet-stream;base64," + text)).blob();
  const stream = packed.stream().pipeThrough(new DecompressionStream("gzip"));
  return new Float32Array(await new Response(stream).arrayBuffer());
}

const numbers = await unpack($("numbers").textContent.trim());
const block = ({ at, count }) => numbers.subarray(at, at + count);
scenes.forEach((scene, i) => {
  [scene.env, scene.color] = [-1, COLORS[i]];
  for (const kind of ["signals", "terms"]) {
    const named = Object.entries(scene[kind]).map(([name, at]) => [name, new Quantity(scene, block(at))]);
    scene[kind] = Object.fromEntries(named);
  }
});

// The recordings' places ----------------------------------------------------------------------

/** What stands over a recording's part of the canvas: its name, and what is dragged on. */
function makeCell(scene) {
  const root = document.createElement("section");
  root.className = "scene";
  root.innerHTML = `<div class="pad"></div><div class="label"><b></b><output></output><small></small></div>`;
  const [pad, name, score, note] = ["div", "b", "output", "small"].map((tag) => root.querySelector(tag));
  name.textContent = scene.title;
  name.style.setProperty("--color", scene.color);
  name.hidden = score.hidden = scenes.length < 2;
  if (scene.contacts) {
    const { weight, length } = scene.contacts;
    note.textContent = `arrows: the ground's forces; ${short(weight)} N, the robot's weight, is ${length} m long`;
  }
  $("scenes").append(root);
  const cell = { scene, root, pad, score };
  if (Object.keys(scene.terms).length) {
    const figure = document.createElement("figure");
    figure.className = "terms";
    figure.innerHTML = "<canvas></canvas><figcaption></figcaption>";
    root.append(figure);
    cell.terms = new Terms(figure, scene);
  }
  return cell;
}

const whose = (scene) => (scene.env >= 0 ? scene.envs[scene.env] : `mean of ${scene.envs.length}`);

function scoreOf(scene) {
  const total = scene.signals.return;
  if (!total) return "";
  const many = total.rows.length > 1 ? ` (${whose(scene)})` : "";
  return `return ${short(total.chosen[frameIn(scene)])}${many}`;
}

// Play ----------------------------------------------------------------------------------------

function play() {
  if (playback.time >= clock.last) playback.time = 0;
  playback.playing = true;
  document.body.classList.add("playing");
}

function pause() {
  playback.playing = false;
  document.body.classList.remove("playing");
}

function seek(frame) {
  playback.time = Math.min(Math.max(frame, 0), clock.last);
}

/** Show the curves of an environment of a recording, or the mean of all. */
function choose(scene, env) {
  scene.env = env;
  if (scenes.length === 1) $("env").value = env;
  repaint();
}

function repaint() {
  charts.forEach((chart) => chart.paint());
  playback.shown = -1;
}

/** The whole frame at a time: between two there may be a reset. */
const frameOf = (time) => Math.floor(time + 1e-6);

/** The frame of a recording at the time shown; one that is over stays at its last. */
const frameIn = ({ fps, frames }) => Math.min(frames - 1, frameOf((Math.max(playback.shown, 0) * fps) / clock.fps));

function show() {
  const frame = frameOf(playback.time);
  if (frame !== playback.shown) {
    playback.shown = frame;
    $("scrub").value = frame;
    $("clock").textContent = `${(frame / clock.fps).toFixed(2)} s   frame ${frame} of ${clock.last}`;
    document.body.dataset.frame = frame;
    charts.forEach((chart) => chart.show());
    cells.forEach(({ scene, score }) => (score.textContent = scoreOf(scene)));
    stage?.place();
  }
  stage?.draw(film !== null);
}

let before = performance.now();
function tick(now) {
  if (playback.playing) {
    playback.time += (Math.max(now - before, 0) / 1000) * clock.fps * playback.speed;
    if (playback.time >= clock.last) {
      playback.time = clock.last;
      pause();
    }
  }
  before = now;
  show();
  if (film !== null) {
    film.add();
    if (playback.time >= clock.last && film.isOver(now)) endFilm();
  }
  requestAnimationFrame(tick);
}

// Video ---------------------------------------------------------------------------------------

let film = null;

/** What a video has besides the picture: each recording's name, return and terms, and the time. */
function annotate(ink) {
  const whole = $("view").getBoundingClientRect();
  const place = (element) => {
    const { left, top, width, height } = element.getBoundingClientRect();
    return [left - whole.left, top - whole.top, width, height];
  };
  for (const { scene, pad, terms } of cells) {
    const [x, y, width] = place(pad);
    ink.font = "600 13px system-ui, sans-serif";
    ink.fillStyle = "#1c2733";
    ink.fillText(`${scene.title}   ${scoreOf(scene)}`, x + 12, y + 10, width - 24);
    if (!terms) continue;
    ink.drawImage(terms.canvas, ...place(terms.canvas));
    ink.font = "11px system-ui, sans-serif";
    terms.values.forEach((value, i) => {
      const [left, top] = place(value.parentElement);
      ink.fillStyle = terms.color(i);
      ink.fillText(value.parentElement.textContent, left, top + 2);
    });
  }
  ink.font = "600 13px system-ui, sans-serif";
  ink.fillStyle = "#1c2733";
  const [x, y, , height] = place(cells[0].pad);
  ink.fillText(`${(playback.shown / clock.fps).toFixed(2)} s`, x + 12, y + height - 24);
}

function startFilm() {
  film = stage && Film.start($("view"), annotate);
  if (film === null) {
    $("notice").textContent = stage ? NO_VIDEO : "There is no picture to record.";
    return;
  }
  $("notice").textContent = "";
  document.body.classList.add("filming");
  $("film").textContent = "stop";
  seek(0);
  play();
}

async function endFilm() {
  const made = film;
  film = null;
  document.body.classList.remove("filming");
  $("film").textContent = "video";
  const content = await made.end();
  if (content === null) $("notice").textContent = NO_VIDEO;
  else save(content, `${document.title.replace(/[^\w.-]+/g, "-").slice(0, 60)}.${made.ending}`);
}

// The controls --------------------------------------------------------------------------------

function connect() {
  $("scrub").max = clock.last;
  $("scrub").addEventListener("input", () => { pause(); seek(Number($("scrub").value)); });
  $("play").addEventListener("click", () => (playback.playing ? pause() : play()));
  for (const speed of SPEEDS) $("speed").add(new Option(`${speed} x`, speed, speed === 1, speed === 1));
  $("speed").addEventListener("change", () => (playback.speed = Number($("speed").value)));
  $("env").add(new Option("mean of all", -1));
  scenes[0].envs.forEach((name, env) => $("env").add(new Option(name, env)));
  $("env").addEventListener("change", () => choose(scenes[0], Number($("env").value)));
  $("choice").hidden = scenes.length > 1 || scenes[0].envs.length < 2;
  $("following").hidden = scenes.every(({ camera }) => camera.eye.count <= 3);
  $("linking").hidden = scenes.length < 2;
  $("pushing").hidden = scenes.every(({ contacts }) => !contacts);
  $("film").hidden = clock.last < 1;
  $("home").addEventListener("click", () => stage?.home());
  $("forces").addEventListener("change", () => stage?.push());
  $("film").addEventListener("click", () => (film === null ? startFilm() : endFilm()));
  window.addEventListener("resize", repaint);
  document.addEventListener("keydown", (event) => {
    if (event.target.matches?.("select, button") && event.key === " ") return;
    if (event.target.matches?.("select")) return;
    const keys = {
      " ": () => (playback.playing ? pause() : play()),
      ArrowRight: () => { pause(); seek(frameOf(playback.time) + 1); },
      ArrowLeft: () => { pause(); seek(frameOf(playback.time) - 1); },
      Home: () => seek(0),
      End: () => { pause(); seek(clock.last); },
    };
    if (!keys[event.key]) return;
    event.preventDefault();
    keys[event.key]();
  });
  cells.forEach(({ scene, pad }, i) => {
    let pressed = [0, 0];
    pad.addEventListener("pointerdown", (event) => (pressed = [event.offsetX, event.offsetY]));
    pad.addEventListener("pointerup", (event) => {
      if (Math.hypot(event.offsetX - pressed[0], event.offsetY - pressed[1]) > 3) return;
      const env = stage?.views[i].pick(event.offsetX, event.offsetY) ?? -1;
      if (env >= 0 || scenes.length > 1) choose(scene, env);
    });
  });
}

document.body.classList.toggle("many", scenes.length > 1);
$("scenes").style.gridTemplateColumns = `repeat(${[1, 1, 2, 2, 2, 3, 3][scenes.length]}, minmax(0, 1fr))`;
const cells = scenes.map(makeCell);
const signals = ["reward", "return"].map((name) => [name, scenes.map((scene) => scene.signals[name]).filter(Boolean)]);
const curves = signals.filter(([, found]) => found.length).map(([name, found]) => new Curve(name, found));
const charts = [...curves, ...cells.flatMap(({ terms }) => terms ?? [])];
let stage = null;
connect();
repaint();
try {
  stage = new Stage(await importThree(), cells);
  $("notice").textContent = "";
} catch (error) {
  $("notice").textContent = `The scene cannot be drawn here: ${error.message}`;
}
const asked = new URLSearchParams(location.hash.slice(1)).get("frame");
if (asked !== null) {
  pause();
  seek(Number(asked) || 0);
} else if (clock.last > 0) {
  play();
}
document.body.dataset.ready = "true";
requestAnimationFrame(tick);
