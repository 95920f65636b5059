// Browsers give no Worker to pages that are read from a folder, and the search runs in one: here in a hidden frame.
if (location.protocol === "file:") {
  window.IFrameWorker = class extends EventTarget {
    constructor(address) {
      super();
      const frame = document.createElement("iframe");
      frame.hidden = true;
      frame.srcdoc = "<body></body>"; // its scripts may call this page, as a page of a folder they would not
      this.ready = new Promise((done) => (frame.onload = done)).then(() => {
        const inside = (this.inside = frame.contentWindow);
        inside.postMessage = (data) => this.receive(data);
        inside.importScripts = async (...addresses) => {
          for (const one of addresses) await this.run(one);
        };
        return this.run(address);
      });
      document.body.append((this.frame = frame));
    }

    run(address) {
      const script = this.inside.document.createElement("script");
      const loaded = new Promise((done, fail) => Object.assign(script, { onload: done, onerror: fail }));
      script.src = address;
      this.inside.document.body.append(script);
      return loaded;
    }

    receive(data) {
      const event = new MessageEvent("message", { data });
      this.dispatchEvent(event);
      this.onmessage?.(event);
    }

    async postMessage(data) {
      await this.ready;
      this.inside.dispatchEvent(new this.inside.MessageEvent("message", { data }));
    }

    terminate() {
      this.frame.remove();
    }
  };
  window.Worker = window.IFrameWorker;
}
