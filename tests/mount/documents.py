"""The blocks of a page of the documentation, and how each kind of them is run.

A fenced block is run by its language: `sh` as a script that must succeed,
`console` as commands behind `$ ` with what they print, `python` as a program
in which a comment behind an expression is what it shows. Other blocks are not
run, nor is one below a comment

    <!-- not run: REASON -->
"""

import ast
import contextlib
import io
import json
import os
import re
import shlex
import subprocess
import sys
import tokenize
import traceback
from dataclasses import dataclass

_BLOCK = re.compile(
    r"(?:^ *<!-- not run: (?P<reason>[^\n]+?) -->\n\s*)?"
    r"^(?P<indent> *)(?P<fence>```+) *(?P<language>\w*)[^\n]*\n(?P<text>.*?)^(?P=indent)(?P=fence) *$",
    re.MULTILINE | re.DOTALL,
)
LANGUAGES = ("sh", "console", "python")
PATIENCE = 120  # seconds for one command


@dataclass
class Block:
    """A fenced block: its language, its text, its line in the page, why it is not run."""

    language: str
    text: str
    line: int
    reason: str | None


def blocks(page):
    """Return the blocks of the text of a page that are meant to be run."""
    found = []
    for match in _BLOCK.finditer(page):
        if match["language"] in LANGUAGES:
            text = re.sub(f"^{match['indent']}", "", match["text"], flags=re.MULTILINE)
            line = page.count("\n", 0, match.start("text")) + 1
            found.append(Block(match["language"], text, line, match["reason"]))
    return found


class Session:
    """A directory in which the blocks of one page are run, one after the other."""

    def __init__(self, directory, environment):
        self._directory = directory
        self._environment = environment
        self._interpreter = None

    def __enter__(self):
        return self

    def __exit__(self, *_):
        if self._interpreter:
            self._interpreter.kill()
            self._interpreter.communicate()

    def run(self, block):
        """Run `block`; `AssertionError` says what was amiss."""
        {"sh": self._script, "console": self._commands, "python": self._python}[block.language](
            block
        )

    def _shell(self, script):
        # Each script has a shell of its own, who pastes has one for all: so none may leave the
        # directory. What runs on in the background writes to a file, or is waited for.
        here = shlex.quote(str(self._directory))
        done = subprocess.run(
            ["bash", "-c", f'set -eu -o pipefail\n{script}\n[ "$PWD" = {here} ]'],
            cwd=self._directory,
            env=self._environment,
            check=False,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=PATIENCE,
        )
        return done.returncode, done.stdout

    def _script(self, block):
        status, output = self._shell(block.text)
        assert status == 0, f"line {block.line}: exit status {status}\n{block.text}\n{output}"

    def _commands(self, block):
        for command, wanted in _dialogue(block.text):
            status, output = self._shell(command)
            where = f"line {block.line}: $ {command}\n{output}"
            assert matches(wanted, output), f"{where}\n-- the page says\n{wanted}"
            # A failure that is shown says so; one without a word would not be seen on the page.
            assert status == 0 or wanted.strip(), f"{where}\nexit status {status}"

    def _python(self, block):
        # One process for all blocks of a page, and not this one: a block that fails may leave a
        # store open, whose holder is ended with the test.
        if self._interpreter is None:
            self._interpreter = subprocess.Popen(
                [sys.executable, __file__],
                cwd=self._directory,
                env=self._environment,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                text=True,
            )
        print(json.dumps([block.text, block.line]), file=self._interpreter.stdin, flush=True)
        amiss = json.loads(self._interpreter.stdout.readline())
        assert amiss is None, amiss


def matches(wanted, output):
    """Tell whether `output` is what a page shows; newlines at its end do not count.

    A line of `...` stands for any lines, also none; within a line `...` stands for anything.
    """
    pattern = "".join(
        r"(?:.*\n)*"
        if line.strip() == "..."
        else ".*".join(map(re.escape, line.split("..."))) + r"\n"
        for line in wanted.rstrip("\n").split("\n")
    )
    return re.fullmatch(pattern, output.rstrip("\n") + "\n") is not None


def _dialogue(text):
    """Return the commands of a console block, each with what it prints."""
    found = []
    for line in text.splitlines(keepends=True):
        if line.startswith("$ "):
            found.append([line[2:], ""])
        elif line.startswith("> ") and found and not found[-1][1]:
            found[-1][0] += line[2:]
        else:
            assert found, f"a console block begins with a command: {line}"
            found[-1][1] += line
    return found


class _Shows(ast.NodeTransformer):
    """Hands each expression that stands as a statement to a function, with its line."""

    def visit_Expr(self, node):
        call = ast.Call(ast.Name("_shown", ast.Load()), [node.value, ast.Constant(node.lineno)], [])
        return ast.copy_location(ast.Expr(call), node)


def _is_literal(text):
    """Tell whether `text` is a value, and not None: what prose hardly is."""
    with contextlib.suppress(ValueError, SyntaxError):
        return ast.literal_eval(text) is not None
    return False


def _comments(text):
    """Return for the first line of each statement the comment at its end, or None."""
    comments, first, last = {}, None, None
    for token in tokenize.generate_tokens(io.StringIO(text).readline):
        if token.type == tokenize.COMMENT:
            last = token.string.lstrip("# ")
        elif token.type == tokenize.NEWLINE:
            comments[first] = last
            first = last = None
        elif token.type not in {tokenize.NL, tokenize.INDENT, tokenize.DEDENT}:
            if first is None:
                first, last = token.start[0], None
    return comments


def _run_python(text, names, line):
    """Run a program; what is shown where a comment stands must be what the comment says.

    That is what an expression prints, and its value unless that is None. Where
    there is nothing to show, a comment is for people, if it is no value.
    """
    comments = _comments(text)
    printed = io.StringIO()

    def shown(value, at):
        output = printed.getvalue()
        printed.seek(0)
        printed.truncate()
        if value is not None:
            output += repr(value) + "\n"
        wanted = next((comments[n] for n in range(at, 0, -1) if n in comments), None)
        if wanted is not None and (output or _is_literal(wanted)):
            assert matches(wanted, output), (
                f"line {line + at - 1}: {output}-- the page says {wanted}"
            )

    tree = ast.fix_missing_locations(_Shows().visit(ast.parse(text)))
    names["_shown"] = shown
    with contextlib.redirect_stdout(printed):
        exec(compile(tree, f"<block at line {line}>", "exec"), names)


def environment(directory, programs):
    """Return the environment of who reads the documentation, with `programs` on the PATH."""
    run = directory.parent / "run"
    run.mkdir(mode=0o700)
    return os.environ | {
        "PATH": f"{programs}:{os.environ['PATH']}",
        "HOME": str(directory.parent),
        "XDG_RUNTIME_DIR": str(run),
        "LC_ALL": "C.UTF-8",
        "TZ": "UTC",
    }


def _interpret():
    """Run the programs that come as lines of JSON; answer each with what was amiss."""
    names = {"__name__": "__main__"}
    for request in sys.stdin:
        text, line = json.loads(request)
        amiss = None
        try:
            _run_python(text, names, line)
        except Exception:
            amiss = traceback.format_exc()
        print(json.dumps(amiss), flush=True)


if __name__ == "__main__":
    _interpret()
