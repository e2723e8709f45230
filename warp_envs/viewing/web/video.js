// The picture as a video, made by the browser while it plays.

const VIDEOS = [["video/mp4;codecs=avc1.640028", "mp4"], ["video/webm;codecs=vp9", "webm"], ["video/webm;codecs=vp8", "webm"], ["video/webm", "webm"]];
const NO_VIDEO = "This browser cannot record video; gippo view RUN out=film.gif writes one without a browser.";
const LARGEST = 1920 * 1080; // pixels

class Film {
  /** A video of the canvas `shown` with what `over` draws on it anew; null if there is no way. */
  static start(shown, over) {
    const [type, ending] = Film.format() ?? [];
    return type ? new Film(shown, over, type, ending) : null;
  }

  static format() {
    if (typeof MediaRecorder === "undefined" || !HTMLCanvasElement.prototype.captureStream) return undefined;
    return VIDEOS.find(([type]) => MediaRecorder.isTypeSupported(type));
  }

  constructor(shown, over, type, ending) {
    [this.shown, this.over, this.ending] = [shown, over, ending];
    this.canvas = document.createElement("canvas");
    const shrink = Math.min(1, Math.sqrt(LARGEST / (shown.width * shown.height)));
    const even = (length) => Math.max(2, 2 * Math.floor((shrink * length) / 2));
    [this.canvas.width, this.canvas.height] = [even(shown.width), even(shown.height)];
    this.ink = this.canvas.getContext("2d", { alpha: false });
    this.pieces = [];
    this.recorder = new MediaRecorder(this.canvas.captureStream(), { mimeType: type, videoBitsPerSecond: 8e6 });
    this.recorder.addEventListener("dataavailable", ({ data }) => this.pieces.push(data));
    this.recorder.addEventListener("error", () => (this.failed = true));
    this.done = new Promise((resolve) => this.recorder.addEventListener("stop", resolve));
    this.add();
    this.recorder.start(1000);
  }

  /** Take the picture as it is now, just drawn. */
  add() {
    const { width, height } = this.canvas;
    const ratio = width / this.shown.clientWidth;
    this.ink.setTransform(1, 0, 0, 1, 0, 0);
    this.ink.fillStyle = "#f7f9fb";
    this.ink.fillRect(0, 0, width, height);
    this.ink.drawImage(this.shown, 0, 0, width, height);
    this.ink.scale(ratio, ratio);
    this.ink.textBaseline = "top";
    this.over(this.ink);
  }

  /** Whether the last picture has stood for long enough: what is taken just before the end is lost. */
  isOver(now) {
    this.ended ??= now;
    this.stood = (this.stood ?? 0) + 1;
    return now - this.ended > 700 && this.stood > 3;
  }

  /** The file's content, null if it could not be made. */
  async end() {
    if (this.recorder.state !== "inactive") this.recorder.stop();
    await this.done;
    const whole = new Blob(this.pieces, { type: this.recorder.mimeType });
    return this.failed || whole.size === 0 ? null : whole;
  }
}

function save(content, name) {
  const link = document.createElement("a");
  link.href = URL.createObjectURL(content);
  link.download = name;
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 60_000);
}
