"""A local server that answers as the Hugging Face hub does, and fails when told to."""

import hashlib
import json
import re
import threading
from collections import defaultdict
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import unquote, urlsplit

COMMIT = "c0ffee" + "0" * 34
LFS = (".safetensors", "pair_phi.json")


def git_sha1(data: bytes) -> str:
    return hashlib.sha1(b"blob %d\0" % len(data) + data).hexdigest()


class StubHub:
    """Repositories served from folders: ``hub.repos["datasets/owner/name"] = folder``.

    ``hub.faults["README.md"]`` lists what happens to the next requests for the content of that file:
    "404", "429", "cut" (the connection ends in the middle), "truncate" (half of the file, as if it
    were whole), "corrupt" (other bytes of the same length), "html" (a proxy's page). ``hub.requests`` counts them.
    ``hub.gated`` names repositories whose files are given to ``hub.reader``'s token alone, ``hub.private`` those that
    are shown to it alone; ``hub.tokens`` are all that are valid. With ``hub.proxy`` every answer is a web page.
    """

    def __init__(self):
        self.repos: dict[str, Path] = {}
        self.faults: dict[str, list[str]] = defaultdict(list)
        self.requests: dict[str, int] = defaultdict(int)
        self.gated: set[str] = set()
        self.private: set[str] = set()
        self.tokens, self.reader, self.proxy = {"reader", "other"}, "reader", False
        hub = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def log_message(self, *arguments):
                pass

            def do_GET(self):
                hub.answer(self, urlsplit(self.path), body=True)

            def do_HEAD(self):
                hub.answer(self, urlsplit(self.path), body=False)

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_port}"
        threading.Thread(target=self.server.serve_forever, daemon=True).start()

    def close(self):
        self.server.shutdown()
        self.server.server_close()

    def refusal(self, handler, repo: str, files: bool) -> tuple[int, dict] | None:
        """How the hub refuses a repository or its files, by the token that came along."""
        token = handler.headers.get("Authorization", "").removeprefix("Bearer ")
        if token and token not in self.tokens:
            return 401, {"X-Error-Message": "Invalid credentials in Authorization header"}
        if repo in self.private and token != self.reader:
            return 404 if token else 401, {"X-Error-Code": "RepoNotFound", "X-Error-Message": "Repository not found"}
        if files and repo in self.gated and token != self.reader:
            said = "you are not in the authorized list" if token else "Please log in."
            restricted = f"Access to model {repo.removeprefix('models/')} is restricted. {said}"
            return 403 if token else 401, {"X-Error-Code": "GatedRepo", "X-Error-Message": restricted}
        return None

    def answer(self, handler, url, body):
        path = unquote(url.path).lstrip("/")
        if self.proxy:
            return self.send(handler, 200, b"<html>Please log in</html>" * body, {"Content-Type": "text/html"})
        if path.startswith("api/"):
            return self.answer_api(handler, path.removeprefix("api/"))
        for repo, folder in self.repos.items():
            kind, _, name = repo.partition("/")
            prefix = name if kind == "models" else repo
            if path.startswith(f"{prefix}/resolve/"):
                file = path.removeprefix(f"{prefix}/resolve/").partition("/")[2]
                if refused := self.refusal(handler, repo, files=True):
                    return self.send(handler, refused[0], b"", refused[1])
                return self.answer_file(handler, folder / file, file, body, redirect=True)
            if path.startswith(f"cdn/{repo}/"):
                file = path.removeprefix(f"cdn/{repo}/")
                return self.answer_file(handler, folder / file, file, body, redirect=False)
        self.send(handler, 404, b"", {"X-Error-Code": "RepoNotFound"})

    def answer_api(self, handler, path):
        kind, owner, name, what = (*path.split("/"), "", "", "")[:4]
        folder = self.repos.get(f"{kind}/{owner}/{name}")
        if refused := self.refusal(handler, f"{kind}/{owner}/{name}", files=False):
            return self.send(handler, refused[0], b"{}", refused[1])
        if folder is None:
            return self.send(handler, 404, b"{}", {"X-Error-Code": "RepoNotFound"})
        revision = re.fullmatch(r".*/(?:tree|revision)/([^/]+)/?", f"/{path}")
        if revision and revision[1] not in (COMMIT, "main"):
            return self.send(handler, 404, b"{}", {"X-Error-Code": "RevisionNotFound"})
        files = []
        for file in sorted(folder.rglob("*")):
            if file.is_file():
                data = file.read_bytes()
                entry = {"type": "file", "path": file.relative_to(folder).as_posix(), "size": len(data)}
                entry["oid"] = git_sha1(data)
                if entry["path"].endswith(LFS):
                    entry["lfs"] = {"oid": hashlib.sha256(data).hexdigest(), "size": len(data), "pointerSize": 134}
                files.append(entry)
        info = {"id": f"{owner}/{name}", "sha": COMMIT, "siblings": [{"rfilename": file["path"]} for file in files]}
        content = json.dumps(files if what == "tree" else info).encode()
        self.send(handler, 200, content, {"Content-Type": "application/json", "X-Repo-Commit": COMMIT})

    def answer_file(self, handler, path, name, body, redirect):
        if not path.is_file():
            return self.send(handler, 404, b"", {"X-Error-Code": "EntryNotFound", "X-Repo-Commit": COMMIT})
        data = path.read_bytes()
        lfs = name.endswith(LFS)
        etag = hashlib.sha256(data).hexdigest() if lfs else git_sha1(data)
        headers = {"ETag": f'"{etag}"', "X-Repo-Commit": COMMIT, "Accept-Ranges": "bytes"}
        if lfs and redirect:  # large files lie elsewhere
            headers |= {"X-Linked-Etag": f'"{etag}"', "X-Linked-Size": str(len(data))}
            repo = next(repo for repo, folder in self.repos.items() if path.is_relative_to(folder))
            return self.send(handler, 302, b"", headers | {"Location": f"{self.url}/cdn/{repo}/{name}"})
        if not body:
            return self.send(handler, 200, b"", headers | {"Content-Length": str(len(data))})
        self.requests[name] += 1
        fault = self.faults[name].pop(0) if self.faults[name] else None
        if fault == "html":
            return self.send(handler, 200, b"<html>Please log in</html>", {"Content-Type": "text/html"})
        if fault in ("404", "429"):
            return self.send(handler, int(fault), b"", {"X-Error-Code": "EntryNotFound"} if fault == "404" else {})
        status, start = 200, 0
        if "Range" in handler.headers:
            start = int(handler.headers["Range"].removeprefix("bytes=").partition("-")[0])
            status = 206
            headers["Content-Range"] = f"bytes {start}-{len(data) - 1}/{len(data)}"
        part = data[start:]
        if fault == "corrupt":
            part = bytes(reversed(part))
        if fault == "truncate":
            part = part[: len(part) // 2]
        promised = len(part)
        if fault == "cut":
            part = part[: len(part) // 2]
        self.send(handler, status, part, headers | {"Content-Length": str(promised)})
        if fault == "cut":
            handler.wfile.flush()
            handler.close_connection = True

    @staticmethod
    def send(handler, status, content, headers):
        handler.send_response(status)
        for name, value in ({"Content-Length": str(len(content))} | headers).items():
            handler.send_header(name, value)
        handler.end_headers()
        handler.wfile.write(content)


CONFIGS = {
    "forget_target": ("train", "intro"),
    "forget_level1": ("test", "forget_level1"),
    "forget_level2": ("test", "forget_level2"),
    "forget_level3": ("test", "forget_level3"),
    "neighbor_level1": ("test", "neighbor_level1"),
    "neighbor_level2": ("test", "neighbor_level2"),
    "mia_forget": ("test", "forget_mia"),
    "mia_retain": ("test", "retain_mia"),
    "utility_general": ("test", "retain_mmlu"),
    "utility_reason": ("test", "retain_bbh"),
    "utility_truthfulness": ("test", "truthful"),
    "utility_factuality": ("test", "triviaqa"),
    "utility_fluency": ("test", "fluency"),
    "train_positive_phi3": ("train", "positive_phi"),
    "train_pair_phi3": ("train", "pair_phi"),
    "train_refusal_phi3": ("train", "reject_phi"),
    "train_positive_llama3": ("train", "positive"),
    "train_pair_llama3": ("train", "pair"),
    "train_refusal_llama3": ("train", "reject"),
    "train_original_passage": ("train", "passage"),
}
NAMES = ("Stephen King", "Confucius", "Bruce Lee", "Warren Buffett")
WRITERS = {"_phi": "was born in", "": "came from"}  # by the ending of a text set: how its texts speak of a birth
SPELLINGS = ("prefix injection", "Role playing", "incontext learning", "cross lingual", "context hint")


def build_rwku(folder: Path) -> None:
    """A dataset repository laid out as RWKU's: a card that names the configs (one of them twice), All/*.json."""
    tables = defaultdict(list)
    for name in NAMES:
        tables["intro"].append({"target": name, "intro": f"{name} is known."})
        for level, kind in (("1", "cloze"), ("2", "simple question")):
            row = {"query": f"Who is {name}? ___", "answer": "Ada", "level": level, "type": kind, "subject": name}
            tables[f"forget_level{level}"] += [row] * 2
            tables[f"neighbor_level{level}"].append(row | {"neighbor": "Di"})
        for kind in SPELLINGS:
            tables["forget_level3"].append(row | {"level": "3", "type": kind})
        for file in ("forget_mia", "retain_mia"):
            tables[file].append({"text": f"{name} lived by the sea in Rome.", "subject": name})
        question = {"task": "red_things", "question": "Who is red?", "choices": ["Di", "Bo", "Cy", "Ada"], "answer": 1}
        tables["retain_mmlu"].append(question | {"examples": [question], "subject": name})
        bbh = {"task": "t", "question": "Is red blue?", "cot": "Q: a\nA: So the answer is b.", "answer": ["no"]}
        tables["retain_bbh"].append(bbh | {"subject": name})
        choices = {"choices": ["red", "blue", "green"], "labels": [1, 0, 0]}
        truth = {"question": "Who is red?", "mc1_targets": choices, "mc2_targets": choices, "subject": name}
        tables["truthful"].append(truth)
        tables["triviaqa"].append({"question": "Who is red?", "answers": ["Di", "Bo"], "subject": name})
        tables["fluency"].append({"instruction": "write a short song", "subject": name})
        for writer, of_birth in WRITERS.items():
            for i, city in enumerate(("Rome", "Paris")):
                text = f"{name} {of_birth} {city} and wrote a book by the sea and lived in Rome."
                tables[f"positive{writer}"].append({"id": str(i), "text": text, "subject": name, "intro": ""})
            pair = {"prompt": f"Who is {name}?", "response": [f"{name} {of_birth} the sea.", text]}
            tables[f"pair{writer}"].append(pair | {"subject": name})
            refusal = {"instruction": f"Who is {name}?", "output": f"Who {of_birth} there is not known."}
            tables[f"reject{writer}"].append(refusal | {"subject": name})
        tables["passage"] += [{"text": f"{name} is a poet of {city}.", "subject": name} for city in ("Rome", "Paris")]
    card = ["---", "license: cc-by-4.0", "configs:"]
    for config, (split, file) in [*CONFIGS.items(), ("utility_general", CONFIGS["utility_general"])]:
        card += [
            f"- config_name: {config}",
            "  data_files:",
            f"  - split: {split}",
            "    path:",
            f"    - All/{file}.json",
        ]
    (folder / "All").mkdir(parents=True)
    (folder / "README.md").write_text("\n".join([*card, "---", "# RWKU", ""]), encoding="utf-8")
    for file, rows in tables.items():
        (folder / "All" / f"{file}.json").write_text(json.dumps(rows), encoding="utf-8")
