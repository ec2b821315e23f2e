"""The ways of editors and tools to change a file: the same on a mount as on a plain directory.

A script prints what it sees; afterwards both directories must hold the same,
the mount's also after it was unmounted and mounted again.
"""

import pytest

# Whether a file is still the inode it was says how its editor replaced it.
VIM = "vim -Nu NONE -i NONE -es -c 'set backupskip='"  # which has /tmp
SCRIPTS = {
    "vim that renames": f"""
        seq 200 > f; chmod 640 f; ln f linked; i=$(stat -c %i f)
        {VIM} -c 'set backup backupcopy=no' -c '%s/^1/one /' -c '!ls -A' -c wq f
        [ $i = $(stat -c %i f) ] && echo same || echo other; stat -c '%A %h' f linked; head -3 f linked 'f~'""",
    "vim that overwrites": f"""
        seq 200 > f; chmod 640 f; ln f linked; i=$(stat -c %i f)
        {VIM} -c 'set backup backupcopy=yes' -c '%s/^1/one /' -c '!ls -A' -c wq f
        [ $i = $(stat -c %i f) ] && echo same || echo other; stat -c '%A %h' f linked; head -3 f linked 'f~'""",
    "vim with undo": f"""
        printf 'one\\ntwo\\n' > f; {VIM} -c 'set undofile' -c 'normal dd' -c wq f; cat f; ls -A
        {VIM} -c 'set undofile' -c 'silent undo' -c wq f; cat f; rm .f.un~; {VIM} -c 'normal Gonew' -c 'saveas g' -c wq f; cat g""",
    "vim that dies": f"""
        seq 200 > f; {VIM} -c 'normal ggOlost' -c preserve -c '!ls -A; kill -9 $PPID' f || echo killed
        cat f | md5sum; ls -A; {VIM} -r f -c 'w! found' -c q! || true; head -2 found; rm .f.swp; ls -A""",
    "sed -i": """
        seq 100 > f; chmod 4711 f; ln f linked; ln -s f link; sed -i s/5/five/ f; stat -c '%n %a %h' f linked; head -5 f linked
        sed -i.old s/6/six/ f; ls; sed -i --follow-symlinks s/7/seven/ link; stat -c %F link; sed -n 7p f; sed -i -n 3p linked; cat linked""",
    "perl -pi": "seq 100 > f; chmod 604 f; perl -pi -e 's/1/one/' f; perl -pi.bak -e 's/2/two/g' f; stat -c '%n %a' f f.bak; head f f.bak; perl -i -ne 'print if /9/' f; cat f",
    "patch": """
        seq 100 > f; cp f g; sed -i -e 50s/.*/fifty/ -e '70a more' g; (diff -u --label f --label g f g > p) || true; patch -s f p; cmp f g; patch -s -R f < p; seq 100 | cmp - f
        patch -s -b f p; ls; chmod 755 f; patch -s -R f p; stat -c %a f; sed -i 's/^-50/-51/' p; patch -s f p || echo rejected; ls; cat f.rej
        printf -- '--- /dev/null\\n+++ b/d/new\\n@@ -0,0 +1 @@\\n+new\\n' | patch -s -p1; cat d/new""",
    "cp and install": """
        seq 100 > f; touch -d '2001-02-03 04:05:06.789' f; chmod 4755 f; cp -p f g; stat -c '%n %a %y' g; cp f h; stat -c '%a %s' h
        i=$(stat -c %i h); echo new > n; cp n h; [ $i = $(stat -c %i h) ] && echo same; cp --remove-destination n h; cat h
        cp -b n h; ls; cp -l f l; stat -c %h f; cp -s f s; test s -ef f; cp -u f n; cat n | wc -l; cp -n h f; wc -l f
        install -m 2711 -o 12 -g 34 f i; stat -c '%a %u %g' i; install -p -D f x/y/z; stat -c %y x/y/z; install -C f x/y/z; install -b f i; ls""",
    "mv across": """
        mkdir -p d/e; seq 1000 > d/e/f; ln d/e/f d/g; touch -d 2001-01-01 d/e/f; away=$(mktemp -d); chmod 750 d/e
        mv d $away; ls -A; mv $away/d back; rmdir $away; stat -c '%n %a' back/e; stat -c '%n %h %y' back/e/f back/g; echo x > g; mv -b g back; cat back/g; ls back""",
    "dd": """
        seq 20000 > f; dd if=/dev/zero of=f bs=1000 seek=7 count=3 conv=notrunc status=none; md5sum f; printf end | dd of=f oflag=append conv=notrunc status=none
        dd if=f of=g bs=64k iflag=fullblock conv=fsync status=none; cmp f g; dd if=f of=g bs=512 skip=3 seek=5 conv=notrunc status=none; md5sum g
        dd if=g of=h bs=4096 conv=sparse,fdatasync status=none; md5sum h; dd if=g of=i bs=4k oflag=direct count=16 status=none; md5sum i; stat -c %s f g h i
        dd if=i bs=4k iflag=direct status=none | md5sum; dd if=f of=f bs=100 skip=1 conv=notrunc status=none; md5sum f""",
    "truncate and split": """
        seq 50000 > f; truncate -s 100K f; truncate -s +10 g; truncate -r f g; truncate -s '<50K' f; truncate -s '%4096' f; stat -c '%n %s' f g
        seq 50000 > w; split -b 7777 w b.; split -n l/9 w l.; split -C 9999 -d w c.; for k in b l c; do cat $k.* | cmp - w; done; ls | wc -l; md5sum b.a? l.a?
        : > a; for part in b.*; do cat $part >> a; rm $part; done; cmp a w; cat l.* > l; cmp l w; csplit -s w 100 '{5}'; cat xx* | cmp - w; ls xx*; tee t u < w | cmp - w; cmp t u""",
    "shells": """
        exec 3> log; echo one >&3; (echo two >&3); { echo three; } 1>&3; exec 4>> log; echo four >&4; exec 3>&- 4>&-; cat log; cat > here <<< text; cat here
        for i in 1 2 3; do echo $i; done > loop; while read -r line; do echo "<$line>"; done < loop > loop2; cat loop2; echo a > 'f g'; . <(echo 'cat "f g"')
        printf '#!/bin/sh\\necho script $1\\n' > s; chmod +x s; ./s run; mkdir d; cd d; rmdir ../d; (ls) ; cd ..; set -- *; echo $#; yes | head -c 300000 > y; md5sum y""",
}  # fmt: skip


@pytest.fixture(scope="module")
def shared(tmp_path_factory, tools):
    """Return one mount for all scripts, each of which has a directory of its own there."""
    with tools.stores_below(tmp_path_factory.mktemp("editing")) as stores:
        yield stores.make("binary")


def both(name, top, plain, tools):
    """Run a script in a directory of `top` and in a plain one; they must not differ."""
    outputs = []
    for directory in (plain / name, top / name):
        directory.mkdir(parents=True)
        outputs.append(tools.run(SCRIPTS[name], directory).replace(bytes(directory), b"HERE"))
    assert outputs[1] == outputs[0]
    assert tools.tree(top / name) == tools.tree(plain / name)
    return outputs[1]


@pytest.mark.parametrize("name", SCRIPTS)
def test_it_acts_as_on_a_plain_directory(shared, tools, tmp_path, name):
    output = both(name, shared.path, tmp_path / "plain", tools)
    if name.startswith("vim that"):
        assert b".f.swp" in output


def test_what_was_edited_is_there_after_a_remount(binary, tools, tmp_path):
    for name in SCRIPTS:
        both(name, binary.path, tmp_path / "plain", tools)
    binary.remount()
    assert tools.tree(binary.path) == tools.tree(tmp_path / "plain")
