// SPDX-License-Identifier: Apache-2.0
// The page of secondeye serve: takes frames over a WebSocket, draws them with WebGL, sends settings back.
"use strict";

const $ = (id) => document.getElementById(id);
const DEPTH = 9; // the layout's number in a frame's header
const page = { mode: "sbs", layout: 0, width: 0, height: 0, frames: 0, latencies: [], moments: [], settings: {}, socket: null, retry: 500 };
window.secondeye = page; // for tests and for the curious

// ---- drawing -------------------------------------------------------------------------------------------------

const canvas = $("picture");
const gl = canvas.getContext("webgl2", { antialias: false, xrCompatible: false });
const VERTEX = `#version 300 es
uniform mat4 place; uniform vec2 size; out vec2 at;
void main() {
  vec2 corner = vec2(gl_VertexID & 1, gl_VertexID >> 1);
  at = vec2(corner.x, 1.0 - corner.y);
  gl_Position = place * vec4((corner - 0.5) * size, 0.0, 1.0);
}`;
const FRAGMENT = `#version 300 es
precision highp float;
uniform sampler2D frame; uniform int mode; in vec2 at; out vec4 colour;
vec3 left(vec2 p) { return texture(frame, vec2(p.x * 0.5, p.y)).rgb; }
vec3 right(vec2 p) { return texture(frame, vec2(0.5 + p.x * 0.5, p.y)).rgb; }
void main() {
  vec3 c;
  if (mode == 0) c = texture(frame, at).rgb;
  else if (mode == 1) c = left(at);
  else if (mode == 2) c = right(at);
  else if (mode == 3) c = texture(frame, vec2(fract(at.x + 0.5), at.y)).rgb;
  else { // Dubois's least-squares projection for red-cyan glasses
    vec3 l = left(at), r = right(at);
    c = vec3(dot(l, vec3(0.437, 0.449, 0.164)) + dot(r, vec3(-0.011, -0.032, -0.007)),
             dot(l, vec3(-0.062, -0.062, -0.024)) + dot(r, vec3(0.377, 0.761, 0.009)),
             dot(l, vec3(-0.048, -0.050, -0.017)) + dot(r, vec3(-0.026, -0.093, 1.234)));
  }
  colour = vec4(clamp(c, 0.0, 1.0), 1.0);
}`;
const IDENTITY = new Float32Array([1, 0, 0, 0, 0, 1, 0, 0, 0, 0, 1, 0, 0, 0, 0, 1]);
const MODES = { sbs: 0, depth: 0, left: 1, right: 2, cross: 3, anaglyph: 4 };

function compiled(kind, text) {
  const shader = gl.createShader(kind);
  gl.shaderSource(shader, text);
  gl.compileShader(shader);
  if (!gl.getShaderParameter(shader, gl.COMPILE_STATUS)) throw new Error(gl.getShaderInfoLog(shader));
  return shader;
}

let uniform = {};
function prepare() {
  const program = gl.createProgram();
  uniform = {};
  gl.attachShader(program, compiled(gl.VERTEX_SHADER, VERTEX));
  gl.attachShader(program, compiled(gl.FRAGMENT_SHADER, FRAGMENT));
  gl.linkProgram(program);
  gl.useProgram(program);
  for (const name of ["place", "size", "mode", "frame"]) uniform[name] = gl.getUniformLocation(program, name);
  gl.bindTexture(gl.TEXTURE_2D, gl.createTexture());
  for (const side of [gl.TEXTURE_WRAP_S, gl.TEXTURE_WRAP_T]) gl.texParameteri(gl.TEXTURE_2D, side, gl.CLAMP_TO_EDGE);
  gl.texParameteri(gl.TEXTURE_2D, gl.TEXTURE_MIN_FILTER, gl.LINEAR);
}
if (gl) prepare();
// Browsers take the GPU from pages that sleep, and give it back.
canvas.addEventListener("webglcontextlost", (event) => event.preventDefault());
canvas.addEventListener("webglcontextrestored", prepare);

function quad(mode, place, width, height) {
  gl.uniformMatrix4fv(uniform.place, false, place);
  gl.uniform2f(uniform.size, width, height);
  gl.uniform1i(uniform.mode, mode);
  gl.drawArrays(gl.TRIANGLE_STRIP, 0, 4);
}

function draw() {
  if (!gl || !page.width || page.vr) return;
  const pair = page.layout !== DEPTH;
  const wide = pair && !["sbs", "cross"].includes(page.mode) ? page.width / 2 : page.width;
  if (canvas.width !== wide || canvas.height !== page.height) {
    canvas.width = wide;
    canvas.height = page.height;
  }
  let mode = pair ? MODES[page.mode] ?? 0 : 0;
  if (pair && page.mode === "wiggle") mode = 1 + (Math.floor(performance.now() / 150) % 2);
  gl.bindFramebuffer(gl.FRAMEBUFFER, null);
  gl.viewport(0, 0, canvas.width, canvas.height);
  quad(mode, IDENTITY, 2, 2);
}

function animate() {
  if (page.mode === "wiggle") draw();
  requestAnimationFrame(animate);
}
requestAnimationFrame(animate);

// ---- frames --------------------------------------------------------------------------------------------------

function say(id, text) { // a reader of screens speaks what is set anew, the same text too
  if ($(id).textContent !== text) $(id).textContent = text;
}

function notice() {
  say("notice", gl ? page.fault || page.state?.error || (page.frames ? "" : "Waiting for the first picture …")
    : "This page draws with WebGL 2, which this browser does not offer.");
}

let turn = Promise.resolve(); // frames are decoded side by side, and shown one after another
let undrawn = []; // while nobody looks, no frame is acknowledged: then no more come
function taken(socket, data) {
  const bitmap = createImageBitmap(new Blob([new Uint8Array(data, 20)], { type: "image/jpeg" }));
  turn = turn.then(() => bitmap).then((made) => show(new DataView(data, 0, 20), made))
    .catch((error) => say("notice", String(error)))
    .then(() => {
      undrawn.push(() => send(socket, { drawn: new DataView(data).getUint32(0, true) }));
      acknowledge();
    });
}

function acknowledge() {
  if (document.hidden && !page.vr) return;
  for (const one of undrawn) one();
  undrawn = [];
}
document.addEventListener("visibilitychange", acknowledge);

function send(socket, message) {
  if (socket.readyState === WebSocket.OPEN) socket.send(JSON.stringify(message));
}

function show(header, bitmap) {
  page.layout = header.getUint8(16);
  page.width = bitmap.width;
  page.height = bitmap.height;
  page.frames += 1;
  if (page.frames === 1) notice();
  if (gl) gl.texImage2D(gl.TEXTURE_2D, 0, gl.RGB, gl.RGB, gl.UNSIGNED_BYTE, bitmap);
  bitmap.close();
  draw();
  page.latencies.push(header.getFloat32(4, true));
  if (page.latencies.length > 280) page.latencies.shift();
  page.moments.push(performance.now());
  if (page.moments.length > 60) page.moments.shift();
  const span = page.moments[page.moments.length - 1] - page.moments[0];
  if (span > 0) $("rate").textContent = ((1000 * (page.moments.length - 1)) / span).toFixed(1);
  graph();
}

function connect() {
  const scheme = location.protocol === "https:" ? "wss:" : "ws:";
  const socket = new WebSocket(`${scheme}//${location.host}/stream${location.search}`);
  socket.binaryType = "arraybuffer";
  page.socket = socket;
  socket.onmessage = (event) => {
    page.retry = 500;
    if (typeof event.data === "string") told(JSON.parse(event.data));
    else taken(socket, event.data);
  };
  socket.onclose = async (event) => {
    undrawn = [];
    setTimeout(connect, page.retry);
    page.retry = Math.min(5000, page.retry * 2);
    // Browsers do not tell why a WebSocket was refused; of the page itself they do.
    const now = event.reason ? null : await fetch(location.href, { signal: AbortSignal.timeout(2000) }).catch(() => null);
    if (page.socket?.readyState === WebSocket.OPEN) return;
    say("notice", now?.status === 401 ? "It was started anew with another token: open the address that secondeye serve printed."
      : (event.reason ? `Closed: ${event.reason}. ` : "The connection is gone. ") + "Trying again …");
  };
}

// ---- settings and figures --------------------------------------------------------------------------------------

const STAGES = { look: "looking at motion", depth: "depth network", warp: "warp and fill", pack: "layout",
  total: "all of it", depth_age: "age of the depth used", objects_age: "age of the objects used" };
let touched = 0;
function told(state) {
  page.settings = state.settings;
  page.state = state;
  notice();
  if (performance.now() - touched > 700) {
    for (const name of ["strength", "convergence"]) $(name).value = state.settings[name];
    $("view").checked = state.settings.view === "both";
    $("fill").checked = state.settings.fill;
    $("swap").checked = state.settings.swap;
    if ((state.settings.layout === "depth") !== (page.mode === "depth"))
      choose(state.settings.layout === "depth" ? "depth" : "sbs", false);
  }
  values();
  $("median").textContent = `${state.stages.total.toFixed(0)} ms`;
  $("slowest").textContent = `${state.p99.toFixed(0)} ms`;
  const rows = { "frames ready": state.ready, "left out for newer ones": state.dropped, "pages that look": state.clients };
  for (const [name, ms] of Object.entries(state.stages)) rows[STAGES[name] ?? name] = `${ms} ms`;
  $("figures").replaceChildren(...Object.entries(rows).map(([name, value]) => {
    const row = document.createElement("tr");
    for (const text of [name, value]) row.insertCell().textContent = text;
    return row;
  }));
}

function values() {
  say("strength-value", Number($("strength").value).toFixed(1));
  say("convergence-value", Number($("convergence").value).toFixed(2));
}

let unsent = null; // a slider that is dragged moves more often than the server listens
function set(wanted) {
  touched = performance.now();
  values();
  if (!unsent) setTimeout(() => { send(page.socket, { set: unsent }); unsent = null; }, 40);
  unsent = { ...unsent, ...wanted };
}

for (const name of ["strength", "convergence"]) $(name).oninput = () => set({ [name]: Number($(name).value) });
for (const name of ["fill", "swap"]) $(name).onchange = () => set({ [name]: $(name).checked });
$("view").onchange = () => set({ view: $("view").checked ? "both" : "right" });

function choose(mode, tell = true) {
  if (tell && (mode === "depth") !== (page.mode === "depth")) set({ layout: mode === "depth" ? "depth" : "sbs" });
  page.mode = mode;
  for (const button of document.querySelectorAll("[data-mode]"))
    button.setAttribute("aria-pressed", String(button.dataset.mode === mode));
  $("how").textContent = document.querySelector(`[data-mode=${mode}]`).dataset.how;
  draw();
}
$("modes").onclick = (event) => { if (event.target.dataset.mode) choose(event.target.dataset.mode); };

$("full").hidden = !document.fullscreenEnabled; // a phone of Apple's shows films alone on its full screen
$("full").onclick = () => (document.fullscreenElement ? document.exitFullscreen() : $("stage").requestFullscreen());
document.onkeydown = (event) => {
  if (event.ctrlKey || event.metaKey || event.altKey || event.target.tagName === "INPUT") return;
  const buttons = document.querySelectorAll("[data-mode]");
  if (event.key.toLowerCase() === "f") $("full").click();
  else if (Number(event.key) >= 1 && Number(event.key) <= buttons.length) choose(buttons[Number(event.key) - 1].dataset.mode);
};
document.querySelectorAll("[data-mode]").forEach((button, k) => { button.title = `${button.dataset.how} (${k + 1})`; });

function graph() {
  const at = $("graph").getContext("2d"), { width, height } = $("graph");
  const most = Math.max(40, ...page.latencies) * 1.1;
  at.clearRect(0, 0, width, height);
  at.fillStyle = "#e6a93f";
  const empty = width - 2 * page.latencies.length; // the newest is at the right
  page.latencies.forEach((ms, k) => at.fillRect(empty + 2 * k, height - (height * ms) / most, 2, (height * ms) / most));
  at.fillStyle = "#d8d5ce";
  at.font = "18px system-ui";
  for (const line of [0.25, 0.5, 0.75]) {
    at.fillRect(0, height * (1 - line), width, 1);
    at.fillText(`${Math.round(most * line)} ms`, 4, height * (1 - line) - 4);
  }
}

// ---- headsets --------------------------------------------------------------------------------------------------

function product(a, b) {
  const c = new Float32Array(16);
  for (let column = 0; column < 4; ++column)
    for (let row = 0; row < 4; ++row)
      for (let k = 0; k < 4; ++k) c[4 * column + row] += a[4 * k + row] * b[4 * column + k];
  return c;
}

// A screen 2.4 m wide, 2 m ahead; each eye sees its own half of the frame.
async function enter() {
  page.fault = "";
  const session = await navigator.xr.requestSession("immersive-vr", { optionalFeatures: ["local"] });
  await gl.makeXRCompatible();
  session.updateRenderState({ baseLayer: new XRWebGLLayer(session, gl) });
  const space = await session.requestReferenceSpace("local").catch(() => session.requestReferenceSpace("viewer"));
  if (page.mode === "depth") choose("sbs");
  page.vr = session;
  session.onend = () => { page.vr = null; draw(); };
  const screen = new Float32Array(IDENTITY);
  screen[14] = -2;
  const frame = (_, xr) => {
    session.requestAnimationFrame(frame);
    const pose = xr.getViewerPose(space), layer = session.renderState.baseLayer;
    gl.bindFramebuffer(gl.FRAMEBUFFER, layer.framebuffer);
    gl.clearColor(0, 0, 0, 1);
    gl.clear(gl.COLOR_BUFFER_BIT);
    if (!pose || !page.width || page.layout === DEPTH) return;
    for (const view of pose.views) {
      const { x, y, width, height } = layer.getViewport(view);
      gl.viewport(x, y, width, height);
      const place = product(view.projectionMatrix, product(view.transform.inverse.matrix, screen));
      quad(view.eye === "right" ? 2 : 1, place, 2.4, (2.4 * page.height) / (page.width / 2));
    }
  };
  session.requestAnimationFrame(frame);
}

if (!window.isSecureContext)
  $("headset").textContent = "For a headset: serve this page over TLS (--tls-cert, --tls-key); browsers offer VR only there.";
else if (!navigator.xr)
  $("headset").textContent = "For a headset: open this page in its own browser, and Enter VR shows both eyes their views.";

if (navigator.xr && gl) {
  navigator.xr.isSessionSupported("immersive-vr").then((can) => {
    $("vr").disabled = !can;
    if (!can) $("headset").textContent = "No headset here. In a headset's own browser, Enter VR shows both eyes their views.";
  }).catch(() => {});
  $("vr").onclick = () => enter().catch((error) => { page.fault = String(error); notice(); });
}

choose("sbs", false);
connect();
