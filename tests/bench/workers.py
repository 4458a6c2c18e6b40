"""What answers about cases: a process of each side; for start-up, a new one each run."""
import json
import selectors
import subprocess
import time


class Worker:
    """A process that answers one line of JSON with another. It is started when it is first asked,
    and again after it was stopped."""

    def __init__(self, command, env, log):
        self.command, self.env, self.log, self.process = command, env, log, None

    def ask(self, seconds, **what):
        """The answer; {"error": why} where none comes within `seconds`."""
        if self.process is None:
            self.process = subprocess.Popen(self.command, env=self.env, stdin=subprocess.PIPE,
                                            stdout=subprocess.PIPE, stderr=self.log)
            self.ready = selectors.DefaultSelector()
            self.ready.register(self.process.stdout, selectors.EVENT_READ)
        try:
            self.process.stdin.write(json.dumps(what).encode() + b"\n")
            self.process.stdin.flush()
        except BrokenPipeError:
            pass  # then no answer comes either
        seconds = max(seconds, 5)
        if not self.ready.select(seconds):
            self.stop()
            return {"error": f"took over {seconds:.0f} s"}
        line = self.process.stdout.readline()
        if not line:
            self.stop()
            return {"error": "its process died"}
        return json.loads(line)

    def stop(self):
        if self.process:
            self.ready.close()
            self.process.kill()
            self.process.stdin.close()
            self.process.stdout.close()
            self.process.wait()
            self.process = None


class StartUp:
    """Asked as a worker is; a run is a whole process."""

    def __init__(self, command, env, script):
        self.command, self.env, self.script = command, env, script

    def ask(self, seconds, do, case=None, repeats=1, **rest):
        if do == "check":
            self.words = [*self.command, case[self.script]]
            self.run()
            return {"checksum": [], "flops": 0, "bytes": None}
        if do == "time":
            return {"seconds": [self.run() for _ in range(repeats)]}
        return {}

    def run(self):
        start = time.perf_counter()
        subprocess.run(self.words, env=self.env, check=True, stdout=subprocess.DEVNULL)
        return time.perf_counter() - start

    def stop(self):
        pass
