// What is drawn: one canvas, on which each recording has its part, the size of its pad.

async function importThree() {
  const url = URL.createObjectURL(new Blob([$("three").textContent], { type: "text/javascript" }));
  return import(url);
}

const polar = (v) => ({ turn: Math.atan2(v.y, v.x), tilt: Math.acos(v.z / v.length()), away: v.length() });

/** The ground's forces as arrows, seen through the robots that they hold. */
class Arrows {
  constructor(THREE, { frames, contacts }) {
    this.THREE = THREE;
    this.frames = frames;
    this.count = contacts.envs.length;
    this.forces = block(contacts.forces);
    this.points = block(contacts.points);
    this.length = contacts.length; // [m], of the weight
    this.scale = contacts.length / contacts.weight;
    const look = new THREE.MeshBasicMaterial({ color: 0xbe185d, depthTest: false, transparent: true, opacity: 0.9, fog: false, toneMapped: false });
    const thick = 0.025 * this.length;
    const shaft = new THREE.CylinderGeometry(thick, thick, 1, 12).translate(0, 0.5, 0);
    const head = new THREE.ConeGeometry(3 * thick, 0.2 * this.length, 16).translate(0, -0.1 * this.length, 0);
    [this.shafts, this.heads] = [shaft, head].map((shape) => {
      const mesh = new THREE.InstancedMesh(shape, look, this.count);
      mesh.frustumCulled = false;
      mesh.renderOrder = 1;
      return mesh;
    });
  }

  place(frame) {
    const THREE = this.THREE;
    const at = (values, i) => new THREE.Vector3(...[0, 1, 2].map((k) => values[(k * this.count + i) * this.frames + frame]));
    const [up, matrix, turn] = [new THREE.Vector3(0, 1, 0), new THREE.Matrix4(), new THREE.Quaternion()];
    for (let i = 0; i < this.count; i++) {
      const [force, point] = [at(this.forces, i), at(this.points, i)];
      const reach = force.length() * this.scale;
      const small = Math.min(1, reach / (0.4 * this.length)); // a short arrow has a small head
      turn.setFromUnitVectors(up, force.normalize());
      const size = reach > 0 ? [small, reach - 0.19 * this.length * small, small] : [0, 0, 0];
      this.shafts.setMatrixAt(i, matrix.compose(point, turn, new THREE.Vector3(...size)));
      point.addScaledVector(force, reach);
      this.heads.setMatrixAt(i, matrix.compose(point, turn, new THREE.Vector3(small, small, small)));
    }
    for (const mesh of [this.shafts, this.heads]) mesh.instanceMatrix.needsUpdate = true;
  }

  show(whether) {
    this.shafts.visible = this.heads.visible = whether;
  }
}

class View {
  constructor({ THREE, OrbitControls }, scene, pad) {
    this.THREE = THREE;
    this.scene = scene;
    this.pad = pad;
    this.frame = 0;
    this.world = new THREE.Scene();
    this.camera = new THREE.PerspectiveCamera(scene.camera.angle, 1, 0.05, 5000);
    this.camera.up.set(0, 0, 1);
    this.controls = new OrbitControls(this.camera, pad);
    this.controls.enableDamping = true;
    this.controls.maxPolarAngle = 0.49 * Math.PI;
    this.poses = block(scene.poses);
    this.track = { eye: block(scene.camera.eye), aim: block(scene.camera.aim) };
    this.followed = new THREE.Vector3();
    this.light();
    this.addParts();
    if (scene.contacts) {
      this.arrows = new Arrows(THREE, scene);
      this.world.add(this.arrows.shafts, this.arrows.heads);
    }
    this.home();
  }

  light() {
    const THREE = this.THREE;
    this.world.background = new THREE.Color(0xdfe7ef);
    this.world.fog = new THREE.Fog(0xdfe7ef);
    this.world.add(new THREE.HemisphereLight(0xe6eefc, 0x8f959e, 1.5));
    this.sun = new THREE.DirectionalLight(0xfff5e8, 2.6);
    this.sun.castShadow = true;
    this.sun.shadow.mapSize.setScalar(scenes.length > 1 ? 1024 : 2048);
    this.sun.shadow.normalBias = 0.02;
    this.world.add(this.sun, this.sun.target);
  }

  /** One draw call for all parts of one shape and look. */
  addParts() {
    const groups = new Map();
    for (const part of this.scene.parts) {
      const key = `${part.shape} ${part.look} ${part.mover < 0}`;
      if (!groups.has(key)) groups.set(key, []);
      groups.get(key).push(part);
    }
    const shapes = this.scene.shapes.map((shape) => this.geometry(shape));
    const looks = this.scene.looks.map((look) => this.material(look));
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

  /** The recorded camera's place or aim in the frame shown. */
  recorded(track) {
    return new this.THREE.Vector3().fromArray(track, track.length > 3 ? 3 * this.frame : 0);
  }

  home() {
    this.controls.enableDamping = false; // ends a turn that still goes on
    this.controls.update();
    this.controls.enableDamping = true;
    this.camera.position.copy(this.recorded(this.track.eye));
    this.controls.target.copy(this.recorded(this.track.aim));
    this.followed.copy(this.controls.target);
    this.reach = 0.6 * this.camera.position.distanceTo(this.controls.target);
    this.controls.update();
    this.stale = true;
  }

  /** How the camera stands against the recorded one: turned, tilted, so many times as far, aside. */
  stance() {
    const aim = this.recorded(this.track.aim);
    const home = polar(this.recorded(this.track.eye).sub(aim));
    const now = polar(this.camera.position.clone().sub(this.controls.target));
    const aside = this.controls.target.clone().sub(aim).divideScalar(home.away);
    aside.applyAxisAngle(this.camera.up, -home.turn);
    return { turn: now.turn - home.turn, tilt: now.tilt - home.tilt, away: now.away / home.away, aside };
  }

  stand({ turn, tilt, away, aside }) {
    const aim = this.recorded(this.track.aim);
    const home = polar(this.recorded(this.track.eye).sub(aim));
    const [a, b] = [home.turn + turn, Math.min(Math.max(home.tilt + tilt, 0.01), this.controls.maxPolarAngle)];
    const moved = aside.clone().applyAxisAngle(this.camera.up, home.turn).multiplyScalar(home.away);
    this.controls.target.copy(aim).add(moved);
    this.camera.position.set(Math.cos(a) * Math.sin(b), Math.sin(a) * Math.sin(b), Math.cos(b));
    this.camera.position.multiplyScalar(home.away * away).add(this.controls.target);
    this.controls.update();
    this.stale = true;
  }

  /** Stand everything where it was. */
  place(frame) {
    const THREE = this.THREE;
    const { movers: count, frames } = this.scene;
    this.frame = frame;
    const at = (component, mover) => this.poses[(component * count + mover) * frames + frame];
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
    this.arrows?.place(frame);
    const aim = this.recorded(this.track.aim);
    if ($("follow").checked) {
      const moved = aim.clone().sub(this.followed);
      this.camera.position.add(moved);
      this.controls.target.add(moved);
    }
    this.followed.copy(aim);
    this.stale = true;
  }

  /** Take the size of the pad. */
  fit() {
    const { clientWidth: width, clientHeight: height } = this.pad;
    if (this.width === width && this.height === height) return;
    [this.width, this.height] = [width, height];
    this.camera.aspect = width / Math.max(height, 1);
    // Narrower than the recorded picture, see as much of its width.
    const half = Math.tan((this.scene.camera.angle * Math.PI) / 360);
    const widened = Math.max(1, 16 / 9 / this.camera.aspect);
    this.camera.fov = (Math.atan(half * widened) * 360) / Math.PI;
    this.stale = true;
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

  /** The environment shown at a point of the pad, -1 where there is none. */
  pick(x, y) {
    const ray = new this.THREE.Raycaster();
    ray.setFromCamera(new this.THREE.Vector2((2 * x) / this.width - 1, 1 - (2 * y) / this.height), this.camera);
    const hit = ray.intersectObjects(this.moving.map(({ mesh }) => mesh))[0];
    return hit ? hit.object.userData.envs[hit.instanceId] : -1;
  }
}

/** All views on the one canvas. */
class Stage {
  constructor(modules, cells) {
    const { THREE } = modules;
    this.renderer = new THREE.WebGLRenderer({ canvas: $("view"), antialias: true });
    this.renderer.setPixelRatio(Math.min(window.devicePixelRatio, 2));
    this.renderer.shadowMap.enabled = true;
    this.renderer.shadowMap.type = THREE.PCFSoftShadowMap;
    this.renderer.toneMapping = THREE.NeutralToneMapping;
    this.renderer.setScissorTest(true);
    this.size = new THREE.Vector2();
    this.views = scenes.map((scene, i) => new View(modules, scene, cells[i].pad));
    for (const view of this.views) view.controls.addEventListener("start", () => (this.led = view));
    this.push();
  }

  place() {
    this.views.forEach((view) => view.place(frameIn(view.scene)));
  }

  home() {
    this.led = null;
    this.views.forEach((view) => view.home());
  }

  /** Show or hide the ground's forces. */
  push() {
    const shown = $("forces").checked;
    document.body.classList.toggle("pushed", shown);
    for (const view of this.views) {
      view.arrows?.show(shown);
      view.stale = true;
    }
  }

  /** Draw anew if something has changed, or must be on the canvas; at rest there is nothing to do. */
  draw(must) {
    const canvas = this.renderer.domElement;
    const { clientWidth: width, clientHeight: height } = canvas.parentElement;
    this.renderer.getSize(this.size);
    if (this.size.x !== width || this.size.y !== height) this.renderer.setSize(width, height, false);
    else if (!this.moved() && !must) return;
    const whole = canvas.getBoundingClientRect();
    for (const view of this.views) {
      view.fit();
      view.stale = false;
      const part = view.pad.getBoundingClientRect();
      const box = [part.left - whole.left, whole.bottom - part.bottom, part.width, part.height];
      this.renderer.setViewport(...box);
      this.renderer.setScissor(...box);
      view.shine();
      this.renderer.render(view.world, view.camera);
    }
  }

  /** Let the cameras move, as one if they are together; whether anything has changed. */
  moved() {
    let changed = false;
    for (const view of this.views) {
      view.fit();
      if (view.controls.update()) {
        view.stale = true;
        if (view === this.led && $("together").checked) {
          const stance = view.stance();
          this.views.filter((other) => other !== view).forEach((other) => other.stand(stance));
          changed = true;
        }
      }
      changed ||= view.stale;
    }
    return changed;
  }
}
