// Curves over the time of the recordings: dragging on one goes to a frame.

const PAD = 42;
const COLORS = ["#e4632b", "#2563eb", "#059669", "#9333ea", "#b45309", "#0e7490"];
const TERM_COLORS = ["#2563eb", "#e4632b", "#059669", "#9333ea", "#d4a106", "#0e7490", "#db2777", "#65a30d", "#7c2d12", "#6b7280"];
const short = (value) => {
  const digits = Math.abs(value) >= 100 ? 0 : Math.abs(value) >= 1 ? 1 : 3;
  return Number(value.toFixed(digits)).toString();
};

/** Round numbers, `count` or so, between two. */
function ticks(low, high, count) {
  const rough = (high - low) / count;
  const ten = 10 ** Math.floor(Math.log10(rough));
  const step = ten * [1, 2, 5, 10].find((factor) => factor * ten >= rough);
  const found = [];
  for (let k = Math.ceil(low / step); k * step <= high; k++) found.push(k * step);
  return found;
}

/** A quantity of a recording's environments: a row of each over the frames, and their mean. */
class Quantity {
  constructor(scene, values) {
    this.scene = scene;
    const { frames } = scene;
    this.rows = scene.envs.map((_, env) => values.subarray(env * frames, (env + 1) * frames));
    this.mean = new Float32Array(frames);
    for (const row of this.rows) row.forEach((value, i) => (this.mean[i] += value / this.rows.length));
  }

  /** Of the environment that is chosen, or the mean. */
  get chosen() {
    if (this.rows.length === 1) return this.rows[0];
    return this.scene.env >= 0 ? this.rows[this.scene.env] : this.mean;
  }
}

/** Lines in a figure, with the time that is shown. */
class Chart {
  constructor(figure, quantities) {
    this.canvas = figure.querySelector("canvas");
    this.caption = figure.querySelector("figcaption");
    this.quantities = quantities;
    const drag = (event) => {
      if (!event.buttons) return;
      this.canvas.setPointerCapture(event.pointerId);
      pause();
      seek(Math.round(((event.offsetX - PAD) / (this.canvas.clientWidth - PAD - 2)) * clock.last));
    };
    this.canvas.addEventListener("pointerdown", drag);
    this.canvas.addEventListener("pointermove", drag);
    this.range();
  }

  range() {
    [this.low, this.high] = [0, 0];
    for (const { rows } of this.quantities) {
      for (const row of rows) {
        for (const value of row) {
          if (value < this.low) this.low = value;
          if (value > this.high) this.high = value;
        }
      }
    }
    if (!(this.high > this.low)) this.high = this.low + 1;
  }

  /** Draw the lines, which stay as they are until another environment is chosen. */
  paint() {
    const ratio = window.devicePixelRatio;
    const [width, height] = [this.canvas.clientWidth * ratio, this.canvas.clientHeight * ratio];
    [this.canvas.width, this.canvas.height] = [width, height];
    this.drawn = document.createElement("canvas");
    [this.drawn.width, this.drawn.height] = [width, height];
    const ink = this.drawn.getContext("2d");
    ink.scale(ratio, ratio);
    this.axes(ink);
    this.lines(ink);
  }

  x(seconds) {
    return PAD + (seconds / Math.max(clock.last / clock.fps, 1e-9)) * (this.canvas.clientWidth - PAD - 2);
  }

  y(value) {
    const share = (value - this.low) / (this.high - this.low);
    return this.canvas.clientHeight - 6 - share * (this.canvas.clientHeight - 14);
  }

  axes(ink) {
    ink.font = "10px system-ui, sans-serif";
    ink.fillStyle = "#64748b";
    ink.textAlign = "right";
    ink.textBaseline = "middle";
    for (const value of ticks(this.low, this.high, this.canvas.clientHeight > 100 ? 4 : 3)) {
      ink.strokeStyle = value === 0 ? "#b6c2cf" : "#e6ebf0";
      ink.beginPath();
      ink.moveTo(PAD, this.y(value));
      ink.lineTo(this.canvas.clientWidth, this.y(value));
      ink.stroke();
      ink.fillText(short(value), PAD - 5, this.y(value));
    }
  }

  line(ink, { fps }, row, color, width) {
    ink.strokeStyle = color;
    ink.lineWidth = width;
    ink.beginPath();
    row.forEach((value, frame) => ink.lineTo(this.x(frame / fps), this.y(value)));
    ink.stroke();
  }

  /** The time that is shown, with a dot on each of the quantities. */
  show() {
    const ink = this.canvas.getContext("2d");
    const ratio = window.devicePixelRatio;
    ink.setTransform(1, 0, 0, 1, 0, 0);
    ink.clearRect(0, 0, this.canvas.width, this.canvas.height);
    ink.drawImage(this.drawn, 0, 0);
    ink.scale(ratio, ratio);
    ink.fillStyle = "#1c2733";
    ink.fillRect(this.x(playback.shown / clock.fps) - 0.5, 0, 1, this.canvas.clientHeight);
    this.quantities.forEach((quantity, i) => {
      const { scene, chosen } = quantity;
      const frame = frameIn(scene);
      ink.fillStyle = this.color(i);
      ink.beginPath();
      ink.arc(this.x(frame / scene.fps), this.y(chosen[frame]), this.dot, 0, 2 * Math.PI);
      ink.fill();
      this.tell(i, short(chosen[frame]));
    });
  }
}

/** A signal of all recordings, in the panel: of one, its environments; of many, a line for each. */
class Curve extends Chart {
  constructor(name, quantities) {
    const figure = document.createElement("figure");
    figure.innerHTML = "<figcaption><span></span><b></b></figcaption><canvas></canvas>";
    $("curves").append(figure);
    super(figure, quantities);
    this.name = name;
    this.dot = 3.5;
    this.label = figure.querySelector("span");
    this.canvas.dataset.curve = name;
    this.values = quantities.map((_, i) => {
      const value = document.createElement("i");
      if (scenes.length > 1) value.style.color = this.color(i);
      figure.querySelector("b").append(value);
      return value;
    });
  }

  color(i) { return this.quantities[i].scene.color; }
  tell(i, value) { this.values[i].textContent = value; }

  lines(ink) {
    const many = this.quantities.length === 1 && this.quantities[0].rows.length > 1;
    this.label.textContent = this.name;
    if (many) {
      const { scene, rows } = this.quantities[0];
      ink.globalAlpha = Math.max(0.12, 0.5 / Math.sqrt(rows.length));
      rows.forEach((row) => this.line(ink, scene, row, "#7b8794", 1));
      ink.globalAlpha = 1;
      this.label.textContent += `, ${whose(scene)}`;
    }
    this.quantities.forEach(({ scene, chosen }) => this.line(ink, scene, chosen, scene.color, 1.8));
  }
}

/** The reward of a recording and the terms it is the sum of, under its picture. */
class Terms extends Chart {
  constructor(figure, scene) {
    const { reward, ...rest } = scene.signals;
    const named = [...(reward ? [["reward", reward]] : []), ...Object.entries(scene.terms)];
    super(figure, named.map(([, quantity]) => quantity));
    this.hasReward = Boolean(reward);
    this.dot = 2.5;
    this.values = named.map(([name], i) => {
      const entry = document.createElement("span");
      const value = document.createElement("i"); // as wide as any, so that nothing moves
      entry.style.setProperty("--color", this.color(i));
      entry.append(`${name} `, value);
      this.caption.append(entry);
      return value;
    });
  }

  color(i) {
    const number = i - (this.hasReward ? 1 : 0);
    return number < 0 ? "#1c2733" : TERM_COLORS[number % TERM_COLORS.length];
  }

  tell(i, value) { this.values[i].textContent = value; }

  lines(ink) {
    this.quantities.forEach(({ scene, chosen }, i) => this.line(ink, scene, chosen, this.color(i), 1.2));
  }
}
