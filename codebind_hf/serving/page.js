(() => {
  if (customElements.get("cb-cloud")) return;
  const bytesOf = (text) => Uint8Array.from(atob(text), (sign) => sign.charCodeAt(0));
  const inkOf = (element) => getComputedStyle(element).color;
  // A canvas as sharp as the screen; `draw` is called whenever its size changes. It lives in a shadow tree, since the
  // page may replace children and attributes of an element that it shows already.
  const canvasIn = (element, draw) => {
    const root = element.attachShadow({ mode: "open" }), canvas = document.createElement("canvas");
    const style = document.createElement("style");
    style.textContent = `canvas { display: block; width: 100%; height: 100%; }
      .cb-tip { position: absolute; pointer-events: none; max-width: 240px; padding: .4rem .6rem; border-radius: 8px;
        font-size: .86rem; background: var(--body-text-color); color: var(--body-background-fill); }`;
    root.append(style, canvas);
    const fit = () => {
      const box = element.getBoundingClientRect(), ratio = window.devicePixelRatio || 1;
      canvas.width = Math.max(1, Math.round(box.width * ratio));
      canvas.height = Math.max(1, Math.round(box.height * ratio));
      draw(canvas, ratio);
    };
    new ResizeObserver(fit).observe(element);
    return { root, redraw: fit };
  };

  class Cloud extends HTMLElement {
    static observedAttributes = ["data-points"];
    attributeChangedCallback() {
      const points = new Int16Array(bytesOf(this.dataset.points).buffer);
      this.points = Float32Array.from(points, (value) => value / 32767);
      this.colors = this.dataset.colors ? bytesOf(this.dataset.colors) : null;
      this.screen?.redraw();
    }
    connectedCallback() {
      if (this.screen) return;
      this.turn = 0.7;
      this.tilt = -0.35;
      this.screen = canvasIn(this, (canvas, ratio) => this.draw(canvas, ratio));
      this.addEventListener("pointerdown", (event) => {
        this.from = [event.clientX, event.clientY];
        this.setPointerCapture(event.pointerId);
      });
      this.addEventListener("pointermove", (event) => {
        if (!this.from) return;
        this.rotate((event.clientX - this.from[0]) / 90, (event.clientY - this.from[1]) / 90);
        this.from = [event.clientX, event.clientY];
      });
      for (const end of ["pointerup", "pointercancel"]) this.addEventListener(end, () => (this.from = null));
      this.addEventListener("keydown", (event) => {
        const by = { ArrowLeft: [-0.2, 0], ArrowRight: [0.2, 0], ArrowUp: [0, -0.2], ArrowDown: [0, 0.2] }[event.key];
        if (!by) return;
        event.preventDefault();
        this.rotate(...by);
      });
    }
    rotate(turn, tilt) {
      this.turn += turn;
      this.tilt = Math.max(-1.5, Math.min(1.5, this.tilt + tilt));
      this.dataset.turn = this.turn.toFixed(3);
      this.screen.redraw();
    }
    draw(canvas, ratio) {
      const pen = canvas.getContext("2d"), { points, colors } = this;
      const reach = 0.46 * Math.min(canvas.width, canvas.height);
      const [c, s, u, v] = [Math.cos(this.turn), Math.sin(this.turn), Math.cos(this.tilt), Math.sin(this.tilt)];
      const count = points.length / 3;
      const seen = Array.from({ length: count }, (_, i) => {
        const [x, y, z] = [points[3 * i], points[3 * i + 1], points[3 * i + 2]];
        const deep = c * z - s * x;
        return [c * x + s * z, u * y - v * deep, v * y + u * deep, i];
      }).sort((one, other) => one[2] - other[2]);
      const size = Math.max(1.5, (count > 700 ? 1.7 : 2.6) * ratio);
      for (const [x, y, z, i] of seen) {
        pen.globalAlpha = 0.35 + 0.65 * Math.min(1, Math.max(0, (z + 1) / 2));
        pen.fillStyle = colors ? `rgb(${colors.slice(3 * i, 3 * i + 3).join()})` : this.dataset.color;
        pen.fillRect(canvas.width / 2 + x * reach - size / 2, canvas.height / 2 - y * reach - size / 2, size, size);
      }
      pen.globalAlpha = 1;
    }
  }

  class SharedMap extends HTMLElement {
    static observedAttributes = ["data-items"];
    attributeChangedCallback() {
      this.items = JSON.parse(this.dataset.items);
      this.order = this.items.map((_, i) => i).sort((one, other) => this.items[one].x - this.items[other].x);
      this.screen?.redraw();
    }
    connectedCallback() {
      if (this.screen) return;
      this.tip = document.createElement("div");
      this.tip.className = "cb-tip";
      this.tip.setAttribute("role", "status");
      this.tip.hidden = true;
      this.screen = canvasIn(this, (canvas, ratio) => this.draw(canvas, ratio));
      this.screen.root.append(this.tip);
      const hover = (event) => this.show(this.nearest(event.clientX, event.clientY));
      this.addEventListener("pointermove", hover);
      this.addEventListener("pointerdown", hover);
      this.addEventListener("pointerleave", () => this.show(-1));
      this.addEventListener("keydown", (event) => {
        const by = { ArrowLeft: -1, ArrowRight: 1, ArrowUp: 10, ArrowDown: -10 }[event.key];
        if (!by) return;
        event.preventDefault();
        const place = Math.max(0, this.order.indexOf(this.chosen ?? -1) + by);
        this.show(this.order[Math.min(place, this.order.length - 1)]);
      });
    }
    place(item, width, height, margin) {
      return [margin + item.x * (width - 2 * margin), height - margin - item.y * (height - 2 * margin)];
    }
    nearest(x, y) {
      const box = this.getBoundingClientRect();
      let best = -1, least = 22 * 22;
      this.items.forEach((item, i) => {
        const [across, down] = this.place(item, box.width, box.height, 14);
        const far = (across - x + box.left) ** 2 + (down - y + box.top) ** 2;
        if (far < least) [best, least] = [i, far];
      });
      return best;
    }
    show(chosen) {
      if (chosen === this.chosen) return;
      this.chosen = chosen;
      this.tip.hidden = chosen < 0;
      this.screen.redraw();
      if (chosen < 0) return;
      const box = this.getBoundingClientRect(), item = this.items[chosen];
      this.tip.replaceChildren(
        Object.assign(document.createElement("b"), { textContent: item.modality }),
        document.createElement("br"), item.name);
      const [x, y] = this.place(item, box.width, box.height, 14);
      this.tip.style.left = "0";
      const { offsetWidth: width, offsetHeight: height } = this.tip;
      this.tip.style.left = `${Math.max(0, Math.min(x + 12, box.width - width - 4))}px`;
      this.tip.style.top = `${y + 12 + height > box.height ? y - height - 12 : y + 12}px`;
    }
    draw(canvas, ratio) {
      const pen = canvas.getContext("2d");
      pen.clearRect(0, 0, canvas.width, canvas.height);
      this.items.forEach((item, i) => {
        const [x, y] = this.place(item, canvas.width, canvas.height, 14 * ratio);
        pen.beginPath();
        pen.arc(x, y, (i === this.chosen ? 7 : 3.2) * ratio, 0, 2 * Math.PI);
        pen.globalAlpha = i === this.chosen ? 1 : 0.72;
        pen.fillStyle = item.color;
        pen.fill();
        if (i !== this.chosen) return;
        pen.strokeStyle = inkOf(this);
        pen.lineWidth = 2 * ratio;
        pen.stroke();
      });
      pen.globalAlpha = 1;
    }
  }

  customElements.define("cb-cloud", Cloud);
  customElements.define("cb-map", SharedMap);
})();
