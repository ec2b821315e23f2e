"""The same shell script on a mount and on a plain directory gives the same, by output and tree."""

import pytest

SCRIPTS = {
    "echo": "echo hello > a; cat a; echo more >> a; echo -n x > b; cat a b; wc -c a b",
    "cat": "printf '1\\n2\\n' > a; cat a a > b; cat < b; cat b - <<< three > c; cat c; tac c; head -c 3 c",
    "redirect": "echo 1 > a; echo 2 >> a; echo 3 > a; echo 4 >> a; : > e; { echo 5; echo 6; } >> a; cat a; > a; ls -s e",
    "noclobber": "set -C; echo 1 > a; (echo 2 > a) 2> /dev/null || echo refused; echo 3 >| a; cat a",
    "read-write": "printf abcdef > a; exec 3<> a; read -r -n 2 -u 3 x; echo -n XY >&3; exec 3>&-; echo $x; cat a",
    "cp": "seq 1000 > a; cp a b; cmp a b; echo new > c; cp c b; cat b; mkdir d; cp a b c d; ls d; cp a d/e",
    "cp -a": """
        mkdir -p a/b/c; seq 50 > a/f; chmod 640 a/f; ln -s ../f a/b/link; ln -s nowhere a/broken
        ln a/f a/b/hard; touch -d '2001-02-03 04:05:06.123456789' a/f; chmod 2755 a/b; touch -d 2002-01-01 a/b/c
        mkfifo a/fifo; cp -a a copy; cd copy; find . | sort | xargs stat -c '%n %A %h %F'
        stat -c '%n %y' f b/c; readlink b/link broken; test f -ef b/hard && echo same; diff -r --no-dereference . ../a || true""",
    "mv": """
        echo 1 > a; mv a b; ls; echo 2 > c; mv c b; cat b; mkdir d e; mv b d; mv d e; find . | sort
        mv e/d/b e/d/x; cat e/d/x; mkdir full; echo 3 > full/f; mv -T full/f e/d/x; cat e/d/x; mv -n e/d/x full; ls full""",
    "mv dir": "mkdir -p a/b/c; echo 1 > a/b/c/f; mv a/b x; mkdir empty; mv -T x empty; cat empty/c/f; (mv a a/sub) 2> /dev/null || echo no; ls -A a",
    "rm": """
        mkdir -p d/e/f; touch d/1 d/e/2 d/e/f/3; ln -s / d/root; rm d/1; (rmdir d) 2> /dev/null || echo full
        (rm d) 2> /dev/null || echo directory; rm -r d; ls -A; (rm gone) 2> /dev/null || echo gone; rm -f gone; mkdir x; rmdir x""",
    "ls": """
        mkdir -p d/sub; echo 1 > d/f; echo hid > d/.hidden; ln -s f d/l; chmod 700 d/f; mkfifo d/p; touch -d '2010-01-02 03:04:05' d/*
        ls -la --time-style=full-iso d | awk 'NR > 1 { print $1, $2, $3, $4, $NF }'
        ls -la --time-style=full-iso d/f; ls -a d; ls -f d | sort; ls -F d; ls -R .; ls -d d/.*""",
    "find": """
        mkdir -p a/b c; seq 10 > a/1; : > a/b/2; ln -s a c/l; chmod 600 a/1; find . | sort; find . -type f -size +0 -exec cat {} +
        find . -empty | sort; find . -perm 600; find . -type l -printf '%p %l\\n'; find . -name '?' -type d | sort; find . -links +1 -type f
        find . -depth -mindepth 1 -delete; find .""",
    "grep": "mkdir -p a/b; echo needle > a/1; echo hay > a/2; echo 'a needle' > a/b/3; grep -r needle . | sort; grep -rL needle . | sort; grep -c . a/1",
    "touch": """
        touch a b; stat -c '%n %s %A' a b; touch -d '1999-12-31 23:59:59.987654321' a; stat -c '%x %y' a; touch -r a b; stat -c '%y' b
        touch -a -d 2005-05-05 b; stat -c '%x %y' b; touch -m -d 2006-06-06 b; stat -c '%x %y' b; touch -c none; ls; touch -t 200101010000 a; stat -c %Y a""",
    "dd": """
        dd if=/dev/zero of=z bs=4k count=8 status=none; stat -c %s z; seq 20000 | dd of=s bs=1000 iflag=fullblock status=none; md5sum s z
        dd if=s of=part bs=10 skip=3 count=5 status=none; cat part; printf XXX | dd of=s bs=1 seek=7 conv=notrunc status=none; head -c 20 s
        dd if=/dev/null of=s bs=1 seek=12 status=none; cat s; dd if=/dev/null of=hole bs=1 seek=100000 status=none; md5sum hole
        dd if=s of=s2 oflag=append conv=notrunc status=none; dd if=s of=s2 oflag=append conv=notrunc,fsync status=none; cat s2""",
    "tar": """
        mkdir -p t/d/e; seq 3000 > t/1; echo x > t/d/2; ln -s ../1 t/d/l; ln t/1 t/hard; chmod 4755 t/d/2; mkfifo t/p; touch -d 2003-03-03 t/1 t/d
        tar cf all.tar --sort=name t; tar tf all.tar; mkdir out; tar xpf all.tar -C out; cd out/t; find . | sort | xargs stat -c '%n %A %h'
        stat -c %y 1 d; tar cf - . | tar df -; cd ../..; gzip all.tar; tar tzf all.tar.gz | wc -l; rm all.tar.gz""",
    "sed": "printf 'one\\ntwo\\n' > a; chmod 664 a; sed -i s/one/ONE/ a; cat a; sed -i.bak s/two/TWO/ a; cat a a.bak; stat -c %A a; ls -A",
    "chmod": "touch f; mkdir d; chmod 400 f; chmod u+x,g+w f; chmod 1777 d; stat -c '%a' f d; chown 12:34 f; stat -c '%u:%g' f; chmod 6755 f; chown 0 f; stat -c %a f",
    "links": "echo 1 > a; ln a b; ln -s a c; echo 2 >> b; cat a c; stat -c %h a; rm a; cat b; stat -c %h b; (cat c) 2> /dev/null || echo dangling; ln -sfn b c; cat c; (ln b b) 2> /dev/null || echo exists",
    "truncate": "seq 100 > a; truncate -s 10 a; cat a; truncate -s 20 a; od -c a; truncate -s +5 a; truncate -s 0 a; stat -c %s a; truncate -s 1M a; md5sum a",
    "tee": "echo 1 | tee a b > c; echo 2 | tee -a a > /dev/null; cat a b c",
    "sort": "seq 500 | sort -r > a; sort -n -o a a; head -3 a; uniq a | wc -l; sort -u a -o a; split -l 100 a p; ls; cat p* | md5sum",
    "install": "echo x > s; install -m 751 s t; install -d -m 700 d/e; stat -c '%n %a' t d d/e; mktemp -p . tmp.XXXXXX | wc -c; rm tmp.*",
    "names": "touch 'a b' '*' \"q'uote\" -- -dash $'new\\nline' 'ü' $'\\xff\\xfe' '...' 'a|b' '%41' '=' '+'; ls -A --quoting-style=c; rm -- -dash; ls -A | wc -l",
    "many": "for i in $(seq 300); do echo $i > f$i; done; ls | wc -l; cat $(ls | sort -V) | md5sum; rm f1*; ls | wc -l; for i in f*; do mv $i g$i; done; ls | head -3",
    "python": """
        python3 - <<'END'
        import json, os, pathlib, shutil, sqlite3, tempfile
        pathlib.Path("p/q").mkdir(parents=True); pathlib.Path("p/q/f").write_text("text")
        json.dump({"a": 1}, open("j", "w")); shutil.copytree("p", "p2"); shutil.make_archive("z", "zip", "p"); os.remove("z.zip")
        base = sqlite3.connect("db"); base.execute("create table t (a)"); base.executemany("insert into t values (?)", [(i,) for i in range(500)])
        base.commit(); print(base.execute("select sum(a) from t").fetchone(), base.execute("pragma integrity_check").fetchone()); base.close(); os.remove("db")
        with tempfile.TemporaryFile(dir=".") as file: file.write(b"x" * 10000); file.seek(5); print(len(file.read()))
        print(sorted(e.name for e in os.scandir(".") if e.is_dir()))
        END""",
    "git": """
        export HOME=$PWD GIT_AUTHOR_DATE='2001-01-01T00:00:00Z' GIT_COMMITTER_DATE='2001-01-01T00:00:00Z'
        git init -q -b main r; cd r; git config user.name a; git config user.email b; seq 100 > f; git add f; git commit -qm one; echo x >> f
        git commit -qam two; git log --oneline; git gc -q; git fsck; git checkout -q HEAD~1; wc -l f; cd ..; rm -r r""",
}


@pytest.fixture(scope="module", params=["binary", "text"])
def shared(request, tmp_path_factory, tools):
    """Return one mount for all scripts, each of which has a directory of its own there."""
    with tools.stores_below(tmp_path_factory.mktemp("shell")) as stores:
        yield stores.make(request.param)


def _script(name):
    return "\n".join(line.removeprefix("        ") for line in SCRIPTS[name].splitlines())


@pytest.mark.parametrize("name", SCRIPTS)
def test_script_acts_as_on_a_plain_directory(shared, tools, tmp_path, name):
    plain, mounted = tmp_path / "plain", shared.path / name
    for directory in (plain, mounted):
        directory.mkdir()
    expected = tools.run(_script(name), plain)
    assert tools.run(_script(name), mounted) == expected
    assert tools.tree(mounted) == tools.tree(plain)


def test_what_the_scripts_made_is_there_after_a_remount(mounted, tools, tmp_path):
    plain = tmp_path / "plain"
    for name in SCRIPTS:
        for top in (plain, mounted.path):
            directory = top / name
            directory.mkdir(parents=True)
            tools.run(_script(name), directory)
    before = tools.tree(plain)
    mounted.remount()
    assert tools.tree(mounted.path) == before
    assert mounted.records() > len(before)


def test_time_of_day_is_that_of_the_clock(mounted):
    out = mounted.run(
        "before=$(date +%s); echo 1 > a; mkdir d; after=$(date +%s); echo $before $(stat -c '%X %Y %Z' a d) $after"
    )
    before, *times, after = map(int, out.split())
    assert all(before - 1 <= time <= after for time in times)


def test_mount_shows_itself_as_kvfs(mounted):
    out = mounted.run(f"findmnt -n -o FSTYPE,SOURCE {mounted.path}; df --output=source . | tail -1")
    kind, source, again = out.decode().split()
    assert (kind, source, again) == ("fuse.kvfs", str(mounted.store), str(mounted.store))
