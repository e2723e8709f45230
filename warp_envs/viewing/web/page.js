// Plays the rollout that warp_envs/viewing/page.py wrote into this page. Nothing is loaded from elsewhere.

const $ = (id) => document.getElementById(id);
const scene = JSON.parse($("scene").textContent);
const SPEEDS = [0.1, 0.25, 0.5, 1, 2, 4];
const playback = { time: 0, speed: 1, playing: true, shown: -1, env: -1 };
const last = scene.frames - 1;

// Numbers -------------------------------------------------------------------------------------

/** The float32 numbers of the recording, from gzip in base64. */
async function unpack(text) {
  const packed = await (await fetch("data:application/octet-stream;base64," + text)).blob();
  const stream = packed.stream().pipeThrough(new DecompressionStream("gzip"));
  return new Float32Array(await new Response(stream).arrayBuffer());
}

const numbers = await unpack($("numbers").textContent.trim());
const block = ({ at, count }) => numbers.subarray(at, at + count);

// The picture ---------------------------------------------------------------------------------

async function importThree() {
  const url = URL.createObjectURL(new Blob([$("three").textContent], { type: "text/javascript" }));
  return import(url);
}

class View {
  constructor({ THREE, OrbitControls }) {
    this.THREE = THREE;
    this.renderer = new THREE.WebGLRenderer({ canvas: $("view"), antialias: true });
    this.renderer.setPixelRatio(Math.min(window.devicePixelRatio, 2));
    this.renderer.shadowMap.enabled = true;
    this.renderer.shadowMap.type = THREE.PCFSoftShadowMap;
    this.renderer.toneMapping = THREE.NeutralToneMapping;
    this.world = new THREE.Scene();
    this.camera = new THREE.PerspectiveCamera(scene.camera.angle, 1, 0.05, 5000);
    this.camera.up.set(0, 0, 1);
    this.controls = new OrbitControls(this.camera, this.renderer.domElement);
    this.controls.enableDamping = true;
    this.controls.maxPolarAngle = 0.49 * Math.PI;
    this.poses = block(scene.poses);
    this.track = { eye: block(scene.camera.eye), aim: block(scene.camera.aim) };
    this.followed = new THREE.Vector3();
    this.light();
    this.addParts();
    this.home();
  }

  light() {
    const THREE = this.THREE;
    this.world.background = new THREE.Color(0xdfe7ef);
    this.world.fog = new THREE.Fog(0xdfe7ef);
    this.world.add(new THREE.HemisphereLight(0xe6eefc, 0x8f959e, 1.5));
    this.sun = new THREE.DirectionalLight(0xfff5e8, 2.6);
    this.sun.castShadow = true;
    this.sun.shadow.mapSize.set(2048, 2048);
    this.sun.shadow.normalBias = 0.02;
    this.world.add(this.sun, this.sun.target);
  }

  /** One draw call for all parts of one shape and look. */
  addParts() {
    const groups = new Map();
    for (const part of scene.parts) {
      const key = `${part.shape} ${part.look} ${part.mover < 0}`;
      if (!groups.has(key)) groups.set(key, []);
      groups.get(key).push(part);
    }
    const shapes = scene.shapes.map((shape) => this.geometry(shape));
    const looks = scene.looks.map((look) => this.material(look));
    this.moving = [];
    for (const parts of groups.values()) {
      const { shape, look, mover } = parts[0];
      const mesh = new this.THREE.InstancedMesh(shapes[shape], looks[look], parts.length);
      mesh.frustumCulled = false;
      mesh.receiveShadow = true;
      mesh.castShadow = mover >= 0;
      mesh.userData.envs = parts.map((part) => part.env);
      const locals = parts.map((part) => new this.THREE.Matrix4().fromArray(part.matrix));
      locals.forEach((matrix, i) => mesh.setMatrixAt(i, matrix));
      if (mover >= 0) {
        mesh.instanceMatrix.setUsage(this.THREE.DynamicDrawUsage);
        this.moving.push({ mesh, locals, movers: parts.map((part) => part.mover) });
      }
      this.world.add(mesh);
    }
  }

  geometry(shape) {
    const THREE = this.THREE;
    const { kind, radius, height, size } = shape;
    if (kind === "box") return new THREE.BoxGeometry(size, size, size);
    if (kind === "sphere") return new THREE.SphereGeometry(radius, 32, 20);
    if (kind === "mesh") {
      const made = new THREE.BufferGeometry();
      made.setAttribute("position", new THREE.BufferAttribute(block(shape.corners), 3));
      made.computeVertexNormals();
      return made;
    }
    const round = {
      capsule: () => new THREE.CapsuleGeometry(radius, height, 10, 28),
      cylinder: () => new THREE.CylinderGeometry(radius, radius, height, 32),
      cone: () => new THREE.ConeGeometry(radius, height, 32),
    };
    const made = round[kind](); // along y
    if (shape.axis === "X") made.rotateZ(-0.5 * Math.PI);
    if (shape.axis === "Z") made.rotateX(0.5 * Math.PI);
    return made;
  }

  material({ color, roughness, metallic, opacity }) {
    return new this.THREE.MeshStandardMaterial({
      color: new this.THREE.Color(...color),
      roughness,
      metalness: metallic,
      opacity,
      transparent: opacity < 1,
    });
  }

  /** The recorded camera's place and aim in a frame, as an array of three each. */
  recorded(track, frame) {
    const at = track.length > 3 ? 3 * frame : 0;
    return track.subarray(at, at + 3);
  }

  home() {
    const frame = Math.max(playback.shown, 0);
    this.controls.enableDamping = false; // ends a turn that still goes on
    this.controls.update();
    this.controls.enableDamping = true;
    this.camera.position.fromArray(this.recorded(this.track.eye, frame));
    this.controls.target.fromArray(this.recorded(this.track.aim, frame));
    this.followed.copy(this.controls.target);
    this.reach = 0.6 * this.camera.position.distanceTo(this.controls.target);
    this.controls.update();
    this.stale = true;
  }

  /** Stand everything where it was. */
  place(frame) {
    const THREE = this.THREE;
    const count = scene.movers;
    const at = (component, mover) => this.poses[(component * count + mover) * scene.frames + frame];
    const one = new THREE.Vector3(1, 1, 1);
    const movers = Array.from({ length: count }, (_, mover) => {
      if (Number.isNaN(at(0, mover))) return new THREE.Matrix4().makeScale(0, 0, 0);
      const position = new THREE.Vector3(at(0, mover), at(1, mover), at(2, mover));
      const turn = new THREE.Quaternion(at(3, mover), at(4, mover), at(5, mover), at(6, mover));
      return new THREE.Matrix4().compose(position, turn, one);
    });
    const matrix = new THREE.Matrix4();
    for (const { mesh, locals, movers: carriers } of this.moving) {
      locals.forEach((local, i) => mesh.setMatrixAt(i, matrix.multiplyMatrices(movers[carriers[i]], local)));
      mesh.instanceMatrix.needsUpdate = true;
      mesh.boundingSphere = null; // found anew when something is clicked on
    }
    const aim = new THREE.Vector3().fromArray(this.recorded(this.track.aim, frame));
    if ($("follow").checked) {
      const moved = aim.clone().sub(this.followed);
      this.camera.position.add(moved);
      this.controls.target.add(moved);
    }
    this.followed.copy(aim);
    this.stale = true;
  }

  /** Draw anew what has changed; at rest there is nothing to do. */
  draw() {
    const canvas = this.renderer.domElement;
    const { clientWidth: width, clientHeight: height } = canvas.parentElement;
    const size = this.renderer.getSize(new this.THREE.Vector2());
    if (size.x !== width || size.y !== height) {
      this.renderer.setSize(width, height, false);
      this.camera.aspect = width / height;
      // Narrower than the recorded picture, see as much of its width.
      const half = Math.tan((scene.camera.angle * Math.PI) / 360);
      const widened = Math.max(1, 16 / 9 / this.camera.aspect);
      this.camera.fov = (Math.atan(half * widened) * 360) / Math.PI;
      this.stale = true;
    }
    if (this.controls.update()) this.stale = true;
    if (!this.stale) return;
    this.stale = false;
    this.shine();
    this.renderer.render(this.world, this.camera);
  }

  /** The sun's shadows, where the camera looks. */
  shine() {
    const target = this.controls.target;
    const away = this.camera.position.distanceTo(target);
    const reach = Math.max(this.reach, Math.min(away, 2 * this.reach));
    this.sun.target.position.copy(target);
    this.sun.position.set(0.33, -0.52, 0.79).multiplyScalar(4 * reach).add(target);
    const box = this.sun.shadow.camera;
    [box.left, box.right, box.bottom, box.top] = [-reach, reach, -reach, reach];
    [box.near, box.far] = [0.1, 8 * reach];
    box.updateProjectionMatrix();
    [this.world.fog.near, this.world.fog.far] = [1.5 * away, 12 * away];
    this.camera.near = 0.01 * away;
    this.camera.far = 100 * away + 1000;
    this.camera.updateProjectionMatrix();
  }

  /** The environment shown at a point of the canvas, -1 where there is none. */
  pick(x, y) {
    const { clientWidth, clientHeight } = this.renderer.domElement;
    const ray = new this.THREE.Raycaster();
    ray.setFromCamera(new this.THREE.Vector2((2 * x) / clientWidth - 1, 1 - (2 * y) / clientHeight), this.camera);
    const hit = ray.intersectObjects(this.moving.map(({ mesh }) => mesh))[0];
    return hit ? hit.object.userData.envs[hit.instanceId] : -1;
  }
}

// The curves ----------------------------------------------------------------------------------

/** One quantity of all environments over the frames; dragging goes to a frame. */
class Curve {
  constructor(name, values) {
    this.name = name;
    this.rows = scene.envs.map((_, env) => values.subarray(env * scene.frames, (env + 1) * scene.frames));
    this.mean = new Float32Array(scene.frames);
    for (const row of this.rows) row.forEach((value, i) => (this.mean[i] += value / this.rows.length));
    const figure = document.createElement("figure");
    figure.innerHTML = "<figcaption><span></span><b></b></figcaption><canvas></canvas>";
    $("curves").append(figure);
    [this.label, this.value, this.canvas] = ["span", "b", "canvas"].map((tag) => figure.querySelector(tag));
    this.canvas.dataset.curve = name;
    const drag = (event) => {
      if (!event.buttons) return;
      this.canvas.setPointerCapture(event.pointerId);
      pause();
      seek(Math.round(((event.offsetX - PAD) / (this.canvas.clientWidth - PAD - 2)) * last));
    };
    this.canvas.addEventListener("pointerdown", drag);
    this.canvas.addEventListener("pointermove", drag);
    this.range();
  }

  range() {
    [this.low, this.high] = [Infinity, -Infinity];
    for (const row of this.rows) {
      for (const value of row) {
        if (value < this.low) this.low = value;
        if (value > this.high) this.high = value;
      }
    }
    if (this.low > 0) this.low = 0;
    if (this.high < 0) this.high = 0;
    if (!(this.high > this.low)) this.high = this.low + 1;
  }

  /** Draw the lines, which stay as they are until another environment is chosen. */
  paint() {
    const ratio = window.devicePixelRatio;
    const [width, height] = [this.canvas.clientWidth * ratio, this.canvas.clientHeight * ratio];
    [this.canvas.width, this.canvas.height] = [width, height];
    this.lines = document.createElement("canvas");
    [this.lines.width, this.lines.height] = [width, height];
    const ink = this.lines.getContext("2d");
    ink.scale(ratio, ratio);
    this.axes(ink);
    ink.globalAlpha = Math.max(0.12, 0.5 / Math.sqrt(this.rows.length));
    if (this.rows.length > 1) this.rows.forEach((row) => this.line(ink, row, "#7b8794", 1));
    ink.globalAlpha = 1;
    this.line(ink, this.chosen(), "#e4632b", 1.8);
    const many = this.rows.length > 1;
    const whose = playback.env >= 0 ? scene.envs[playback.env] : `mean of ${this.rows.length}`;
    this.label.textContent = many ? `${this.name}, ${whose}` : this.name;
  }

  chosen() {
    if (this.rows.length === 1) return this.rows[0];
    return playback.env >= 0 ? this.rows[playback.env] : this.mean;
  }

  x(frame) { return PAD + (frame / Math.max(last, 1)) * (this.canvas.clientWidth - PAD - 2); }
  y(value) {
    const share = (value - this.low) / (this.high - this.low);
    return this.canvas.clientHeight - 6 - share * (this.canvas.clientHeight - 14);
  }

  axes(ink) {
    ink.font = "10px system-ui, sans-serif";
    ink.fillStyle = "#64748b";
    ink.textAlign = "right";
    ink.textBaseline = "middle";
    for (const value of ticks(this.low, this.high)) {
      ink.strokeStyle = value === 0 ? "#b6c2cf" : "#e6ebf0";
      ink.beginPath();
      ink.moveTo(PAD, this.y(value));
      ink.lineTo(this.canvas.clientWidth, this.y(value));
      ink.stroke();
      ink.fillText(short(value), PAD - 5, this.y(value));
    }
  }

  line(ink, row, color, width) {
    ink.strokeStyle = color;
    ink.lineWidth = width;
    ink.beginPath();
    row.forEach((value, frame) => ink.lineTo(this.x(frame), this.y(value)));
    ink.stroke();
  }

  show(frame) {
    const ink = this.canvas.getContext("2d");
    const ratio = window.devicePixelRatio;
    ink.setTransform(1, 0, 0, 1, 0, 0);
    ink.clearRect(0, 0, this.canvas.width, this.canvas.height);
    ink.drawImage(this.lines, 0, 0);
    ink.scale(ratio, ratio);
    const value = this.chosen()[frame];
    ink.fillStyle = "#1c2733";
    ink.fillRect(this.x(frame) - 0.5, 0, 1, this.canvas.clientHeight);
    ink.fillStyle = "#e4632b";
    ink.beginPath();
    ink.arc(this.x(frame), this.y(value), 3.5, 0, 2 * Math.PI);
    ink.fill();
    this.value.textContent = short(value);
  }
}

const PAD = 42;
const short = (value) => {
  const digits = Math.abs(value) >= 100 ? 0 : Math.abs(value) >= 1 ? 1 : 3;
  return Number(value.toFixed(digits)).toString();
};

/** Round numbers, four or so, between two. */
function ticks(low, high) {
  const rough = (high - low) / 4;
  const ten = 10 ** Math.floor(Math.log10(rough));
  const step = ten * [1, 2, 5, 10].find((factor) => factor * ten >= rough);
  const found = [];
  for (let k = Math.ceil(low / step); k * step <= high; k++) found.push(k * step);
  return found;
}

// Play ----------------------------------------------------------------------------------------

function play() {
  if (playback.time >= last) playback.time = 0;
  playback.playing = true;
  document.body.classList.add("playing");
}

function pause() {
  playback.playing = false;
  document.body.classList.remove("playing");
}

function seek(frame) {
  playback.time = Math.min(Math.max(frame, 0), last);
}

function choose(env) {
  playback.env = env;
  $("env").value = env;
  curves.forEach((curve) => curve.paint());
  playback.shown = -1;
}

/** The whole frame at a time: between two there may be a reset. */
const frameOf = (time) => Math.floor(time + 1e-6);

function show() {
  const frame = frameOf(playback.time);
  if (frame !== playback.shown) {
    playback.shown = frame;
    $("scrub").value = frame;
    $("clock").textContent = `${(frame / scene.fps).toFixed(2)} s   frame ${frame} of ${last}`;
    document.body.dataset.frame = frame;
    curves.forEach((curve) => curve.show(frame));
    view?.place(frame);
  }
  view?.draw();
}

let before = performance.now();
function tick(now) {
  if (playback.playing) {
    playback.time += (Math.max(now - before, 0) / 1000) * scene.fps * playback.speed;
    if (playback.time >= last) {
      playback.time = last;
      pause();
    }
  }
  before = now;
  show();
  requestAnimationFrame(tick);
}

function connect() {
  $("scrub").max = last;
  $("scrub").addEventListener("input", () => { pause(); seek(Number($("scrub").value)); });
  $("play").addEventListener("click", () => (playback.playing ? pause() : play()));
  for (const speed of SPEEDS) $("speed").add(new Option(`${speed} x`, speed, speed === 1, speed === 1));
  $("speed").addEventListener("change", () => (playback.speed = Number($("speed").value)));
  $("env").add(new Option("mean of all", -1));
  scene.envs.forEach((name, env) => $("env").add(new Option(name, env)));
  $("env").addEventListener("change", () => choose(Number($("env").value)));
  $("choice").hidden = scene.envs.length < 2;
  $("following").hidden = scene.camera.eye.count <= 3;
  $("home").addEventListener("click", () => view?.home());
  window.addEventListener("resize", () => choose(playback.env));
  document.addEventListener("keydown", (event) => {
    if (event.target.matches?.("select")) return;
    const keys = {
      " ": () => (playback.playing ? pause() : play()),
      ArrowRight: () => { pause(); seek(frameOf(playback.time) + 1); },
      ArrowLeft: () => { pause(); seek(frameOf(playback.time) - 1); },
      Home: () => seek(0),
      End: () => { pause(); seek(last); },
    };
    if (!keys[event.key]) return;
    event.preventDefault();
    keys[event.key]();
  });
  let pressed = [0, 0];
  $("view").addEventListener("pointerdown", (event) => (pressed = [event.offsetX, event.offsetY]));
  $("view").addEventListener("pointerup", (event) => {
    if (Math.hypot(event.offsetX - pressed[0], event.offsetY - pressed[1]) > 3) return;
    const env = view?.pick(event.offsetX, event.offsetY) ?? -1;
    if (env >= 0) choose(env);
  });
}

const curves = Object.entries(scene.signals).map(([name, at]) => new Curve(name, block(at)));
let view = null;
connect();
choose(-1);
try {
  view = new View(await importThree());
  $("notice").remove();
} catch (error) {
  $("notice").textContent = `The scene cannot be drawn here: ${error.message}`;
}
const asked = new URLSearchParams(location.hash.slice(1)).get("frame");
if (asked !== null) {
  pause();
  seek(Number(asked) || 0);
} else if (last > 0) {
  play();
}
document.body.dataset.ready = "true";
requestAnimationFrame(tick);
