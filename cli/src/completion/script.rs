//! The scripts that make shells ask `boxbuild complete`.

use std::path::Path;

use crate::args::CompletionShell;

const BASH: &str = r#"# Completion of NAME for bash.
_FUNCTION() {
    local program=boxbuild
    command -v "$program" >/dev/null || program=OTHERWISE
    mapfile -t COMPREPLY < <("$program" complete bash "$COMP_CWORD" -- "${COMP_WORDS[@]}" 2>/dev/null)
    if [[ ${#COMPREPLY[@]} == 1 && ${COMPREPLY[0]} == *[/=:] ]]; then
        compopt -o nospace 2>/dev/null
    fi
}
complete -F _FUNCTION NAME
"#;

const ZSH: &str = r#"#compdef NAME
# Completion of NAME for zsh.
_FUNCTION() {
    local program=boxbuild line value
    command -v "$program" >/dev/null || program=OTHERWISE
    local -a described open
    for line in "${(@f)$("$program" complete zsh "$((CURRENT - 1))" -- "${(@Q)words}" 2>/dev/null)}"; do
        value=${line%%$'\t'*}
        [[ -n $value ]] || continue
        if [[ $value == *[/=:] ]]; then
            open+=("$value")
        else
            [[ $line == *$'\t'* ]] || line+=$'\t'
            described+=("${value//:/\\:}:${line#*$'\t'}")
        fi
    done
    (( ${#open} )) && compadd -S '' -- "${open[@]}"
    (( ${#described} )) && _describe -V NAME described
}
if [[ ${funcstack[1]-} == _FUNCTION ]]; then
    _FUNCTION "$@"
else
    compdef _FUNCTION NAME
fi
"#;

const FISH: &str = r#"# Completion of NAME for fish.
function __FUNCTION
    set -l program boxbuild
    command -q $program; or set program OTHERWISE
    $program complete fish 999999 -- (commandline -opc) (commandline -ct) 2>/dev/null
end
complete --command NAME --keep-order --no-files --arguments '(__FUNCTION)'
"#;

/// Returns the script for the command `name`. `otherwise` is the program where there is no boxbuild in
/// PATH.
pub(crate) fn script(shell: CompletionShell, name: &str, otherwise: Option<&Path>) -> String {
    let text = match shell {
        CompletionShell::Bash => BASH,
        CompletionShell::Zsh => ZSH,
        CompletionShell::Fish => FISH,
    };
    let path = otherwise.map_or("boxbuild".into(), Path::to_string_lossy);
    let plain = |c: char| if c.is_ascii_alphanumeric() { c } else { '_' };
    let function: String = name.chars().map(plain).collect();
    text.replace("FUNCTION", &function)
        .replace("NAME", name)
        .replace("OTHERWISE", &shell_words::quote(&path))
}
