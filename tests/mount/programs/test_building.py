"""What programmers do: make, shared libraries, virtual environments, all on a mount."""

import os
import subprocess
import sys
import zipfile

import pytest

SOURCES = 20

MAKEFILE = """\
CFLAGS = -O0 -fPIC -MMD
objects := $(patsubst %.c,%.o,$(sort $(wildcard part*.c)))

all: program libshared.so
program: main.o libparts.a
\t$(CC) -o $@ main.o -L. -lparts -ldl
libparts.a: $(objects)
\trm -f $@
\tar rc $@ $^
libshared.so: shared.o
\t$(CC) -shared -o $@ $^
-include $(wildcard *.d)
"""

MAIN = """\
#include <dlfcn.h>
#include <stdio.h>
{declarations}
int main(int argc, char **argv)
{{
    void *library = dlopen(argv[1], RTLD_NOW);
    int (*shared)(void) = library ? (int (*)(void)) dlsym(library, "shared") : 0;
    if (!shared) {{
        fprintf(stderr, "%s\\n", dlerror());
        return 1;
    }}
    printf("%d %d\\n", {calls}, shared());
    return 0;
}}
"""


@pytest.fixture
def project(binary):
    """Return a C project on a mount, which sums up what its parts return."""
    top = binary.path / "project"
    top.mkdir()
    (top / "Makefile").write_text(MAKEFILE)
    (top / "all.h").write_text("#define FACTOR 1\n")
    (top / "some.h").write_text("#define OFFSET 0\n")
    for number in range(SOURCES):
        header = "some.h" if number % 5 == 0 else "all.h"
        value = f"{number} + OFFSET" if number % 5 == 0 else f"{number} * FACTOR"
        source = f'#include "{header}"\nint part{number}(void) {{ return {value}; }}\n'
        (top / f"part{number}.c").write_text(source)
    declarations = "\n".join(f"int part{number}(void);" for number in range(SOURCES))
    calls = " + ".join(f"part{number}()" for number in range(SOURCES))
    (top / "main.c").write_text(MAIN.format(declarations=declarations, calls=calls))
    (top / "shared.c").write_text("int shared(void) { return 7; }\n")
    return top


def make(top, target="all"):
    """Run make and return which files it compiled."""
    done = subprocess.run(
        ["make", "-j2", target], cwd=top, check=False, capture_output=True, text=True, timeout=60
    )
    assert done.returncode == 0, done
    return {word for word in done.stdout.split() if word.endswith(".c")}


def newer(path, than):
    """Give `path` a time after that of `than`, as an edit a moment later does."""
    time = max(path.stat().st_mtime_ns, than.stat().st_mtime_ns + 1000)
    os.utime(path, ns=(time, time))


def output(top):
    done = subprocess.run(
        [top / "program", top / "libshared.so"],
        check=False,
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.returncode == 0, done
    return done.stdout


def test_make_builds_what_changed_and_no_more(binary, project):
    total = sum(range(SOURCES))
    assert make(project) == {f"part{n}.c" for n in range(SOURCES)} | {"main.c", "shared.c"}
    assert output(project) == f"{total} 7\n"
    assert make(project) == set()

    binary.remount()
    assert make(project) == set()
    assert output(project) == f"{total} 7\n"

    (project / "part3.c").write_text("int part3(void) { return 1003; }\n")
    newer(project / "part3.c", project / "program")
    assert make(project) == {"part3.c"}
    assert output(project) == f"{total + 1000} 7\n"
    assert make(project) == set()

    (project / "some.h").write_text("#define OFFSET 100\n")
    newer(project / "some.h", project / "program")
    assert make(project) == {f"part{number}.c" for number in range(0, SOURCES, 5)}
    assert output(project) == f"{total + 1000 + 100 * (SOURCES // 5)} 7\n"

    (project / "shared.c").write_text("int shared(void) { return 8; }\n")
    newer(project / "shared.c", project / "libshared.so")
    (project / "part4.o").unlink()
    assert make(project) == {"shared.c", "part4.c"}
    assert output(project) == f"{total + 1000 + 100 * (SOURCES // 5)} 8\n"
    binary.remount()
    assert make(project) == set()
    assert output(project) == f"{total + 1000 + 100 * (SOURCES // 5)} 8\n"


def test_a_running_program_is_not_written_to(binary, project, start):
    (project / "wait.c").write_text(
        '#include <unistd.h>\nint main(void) { char c; write(1, "up\\n", 3); read(0, &c, 1); }\n'
    )
    make(project, "wait")
    running = start(project / "wait", cwd=project)
    assert running.stdout.readline() == "up\n"
    with pytest.raises(OSError, match="Text file busy"):
        open(project / "wait", "r+b")
    (project / "wait").unlink()
    make(project, "wait")
    assert running.poll() is None
    running.communicate("\n", timeout=60)
    (project / "wait").open("r+b").close()


MODULE = """\
from importlib.resources import files
def main():
    print(files("parcel").joinpath("data.txt").read_text(), end="")
"""


def wheel(path, version, text):
    """Make a wheel of a package with a console script and a file of data."""
    info = f"parcel-{version}.dist-info"
    contents = {
        "parcel/__init__.py": MODULE,
        "parcel/data.txt": text,
        f"{info}/METADATA": f"Metadata-Version: 2.1\nName: parcel\nVersion: {version}\n",
        f"{info}/WHEEL": "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
        f"{info}/entry_points.txt": "[console_scripts]\nparcel = parcel:main\n",
    }
    contents[f"{info}/RECORD"] = "".join(f"{name},,\n" for name in [*contents, f"{info}/RECORD"])
    file = path / f"parcel-{version}-py3-none-any.whl"
    with zipfile.ZipFile(file, "w") as archive:
        for name, content in contents.items():
            archive.writestr(name, content)
    return file


def test_a_virtual_environment_and_what_is_installed_in_it(binary):
    def call(*command):
        done = subprocess.run(
            command, cwd=binary.path, check=False, capture_output=True, text=True, timeout=60
        )
        assert done.returncode == 0, done
        return done.stdout

    def install(file):
        call(bin / "python", "-m", "pip", "install", "-q", "--no-index", file)

    bin = binary.path / "venv" / "bin"
    call(sys.executable, "-m", "venv", "venv")
    install(wheel(binary.path, "1.0", "one\n"))
    assert call(bin / "parcel") == "one\n"
    binary.remount()
    assert call(bin / "parcel") == "one\n"
    install(wheel(binary.path, "2.0", "two\n"))
    assert call(bin / "parcel") == "two\n"

    (binary.path / "code").mkdir()
    for number in range(50):
        (binary.path / "code" / f"module{number}.py").write_text(f"VALUE = {number}\n")
    call(bin / "python", "-m", "compileall", "-q", "code")
    assert len(list((binary.path / "code" / "__pycache__").iterdir())) == 50
    binary.remount()
    # Bytecode counts only while it is as its source was: by size and time.
    command = [bin / "python", "-v", "-c", "import sys; sys.path[:0] = ['code']; import module7"]
    done = subprocess.run(
        command, cwd=binary.path, check=True, capture_output=True, text=True, timeout=60
    )
    said = [line for line in done.stderr.splitlines() if "module7.cpython" in line]
    assert said
    assert "matches" in said[0]
