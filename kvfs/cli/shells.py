"""The scripts by which bash, zsh and fish ask kvfs what may follow.

Each gives its name in `_KVFS_COMPLETE` and what was typed as arguments, and is
answered with strings that each end in a NUL: see `kvfs.cli.completion`.
"""

from __future__ import annotations

_BASH = r"""# Completion of kvfs for bash 4.4 or later.
_kvfs_completion() {
    local -a answer
    local rest
    mapfile -d '' -t answer < <(
        _KVFS_COMPLETE=bash "${1/#\~/$HOME}" "${COMP_LINE:0:COMP_POINT}" 2>/dev/null
    )
    COMPREPLY=()
    case ${answer[0]-} in
        dir) compopt -o dirnames ;;
        file) compopt -o default ;;
        # What comes behind the cursor, in the quotes that are open there: so it
        # does not matter where bash thinks that the word begins.
        *) for rest in "${answer[@]:1}"; do COMPREPLY+=("$2$rest"); done ;;
    esac
    # More may follow a component of a key, or an option that takes a value with =.
    if [[ ${#COMPREPLY[@]} -eq 1 && ${COMPREPLY[0]} == */ ]]; then compopt -o nospace; fi
} 2>/dev/null
complete -o nosort -F _kvfs_completion kvfs
"""

_ZSH = r"""#compdef kvfs
# Completion of kvfs for zsh.
_kvfs_completion() {
    local -a answer described parts whole
    local value help
    answer=("${(@0)$(
        _KVFS_COMPLETE=zsh ${~${(Q)words[1]}} "${(@Q)words[2,CURRENT-1]}" "${(Q)PREFIX}" 2>/dev/null
    )}")
    case $answer[1] in
        dir) _files -/; return ;;
        file) _files; return ;;
    esac
    for value help in "${(@)answer[2,-1]}"; do
        if [[ -n $help ]]; then
            described+=("${value//:/\\:}:$help")
        elif [[ $value == */ ]]; then
            parts+=("$value")
        elif [[ -n $value ]]; then
            whole+=("$value")
        fi
    done
    (( $#described )) && _describe -V kvfs described
    (( $#parts )) && compadd -S '' -a -- parts
    (( $#whole )) && compadd -a -- whole
}
if [[ $zsh_eval_context[-1] == loadautofunc ]]; then
    _kvfs_completion "$@"
else
    compdef _kvfs_completion kvfs
fi
"""

_FISH = r"""# Completion of kvfs for fish 3.1 or later.
function __kvfs_completion
    set -l current (commandline -ct)
    set -l answer (env _KVFS_COMPLETE=fish (commandline -opc) "$current" 2>/dev/null | string split0)
    switch "$answer[1]"
        case dir
            __fish_complete_directories "$current" | string join0
        case file
            __fish_complete_path "$current" | string join0
        case '*'
            test (count $answer) -gt 1; and printf '%s\0' $answer[2..-1]
    end
end
complete --command kvfs --no-files --arguments '(__kvfs_completion | string split0)'
"""

SCRIPTS = {"bash": _BASH, "zsh": _ZSH, "fish": _FISH}
"""The script of each shell."""
