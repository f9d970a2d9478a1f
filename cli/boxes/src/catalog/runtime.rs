//! The download server of the build service, from kiwi's own runtime configuration.

use std::fs;
use std::path::{Path, PathBuf};

use serde::Deserialize;

use super::config::read;
use super::error::CatalogError;

#[derive(Debug, Deserialize)]
struct File {
    #[serde(default)]
    obs: Option<Vec<Obs>>,
}

#[derive(Debug, Deserialize)]
struct Obs {
    #[serde(default)]
    download_url: Option<String>,
}

/// Configuration files of vendor and administrator below `/`. Beside each may be a folder with more
/// of them, `kiwi.yml.d` (kiwi 11, `runtime_config.py`).
const SYSTEM: &[&str] = &["usr/share/kiwi/kiwi.yml", "etc/kiwi.yml"];

/// Returns `obs: - download_url:` of kiwi's runtime configuration. Later files win, in this order:
/// the vendor's, the administrator's, the user's, `config`; one that is not there is the box's.
pub(super) fn obs_download_url(
    root: &Path,
    home: Option<&Path>,
    config: Option<&Path>,
) -> Result<Option<String>, CatalogError> {
    let mut files = Vec::new();
    for name in SYSTEM {
        let path = root.join(name);
        let mut more: Vec<PathBuf> = fs::read_dir(path.with_extension("yml.d"))
            .into_iter()
            .flatten()
            .filter_map(Result::ok)
            .map(|entry| entry.path())
            .filter(|path| path.extension().is_some_and(|extension| extension == "yml"))
            .collect();
        more.sort();
        files.push(path);
        files.append(&mut more);
    }
    files.extend(home.map(|home| home.join(".config/kiwi/config.yml")));
    files.extend(config.map(Path::to_owned));
    let mut url = None;
    for path in files {
        if let Some(text) = read(&path)? {
            let found =
                download_url(&text).map_err(|problem| CatalogError::Invalid { path, problem })?;
            url = found.or(url);
        }
    }
    Ok(url)
}

fn download_url(text: &str) -> Result<Option<String>, String> {
    let file: Option<File> = serde_saphyr::from_str(text).map_err(|error| error.to_string())?;
    Ok(file
        .and_then(|file| file.obs)
        .unwrap_or_default()
        .into_iter()
        .find_map(|item| item.download_url)
        .map(|url| url.trim_end_matches('/').to_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_download_server_counts() {
        let text = "xz:\n  - options: -a\nobs:\n  - api_url: https://api.example\n  \
                    - download_url: https://obs.example/repositories/\n";
        assert_eq!(
            download_url(text).unwrap().unwrap(),
            "https://obs.example/repositories"
        );
        for none in ["", "# nothing\n", "xz:\n  - options: -a\n", "obs:\n"] {
            assert_eq!(download_url(none).unwrap(), None, "{none:?}");
        }
        assert!(download_url("obs: [").is_err());
    }

    #[test]
    fn the_users_file_wins() {
        let root = tempfile::tempdir().unwrap();
        let home = root.path().join("home");
        let put = |path: &str, url: &str| {
            let path = root.path().join(path);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, format!("obs:\n- download_url: {url}\n")).unwrap();
            obs_download_url(root.path(), Some(&home), None)
                .unwrap()
                .unwrap()
        };
        assert_eq!(put("usr/share/kiwi/kiwi.yml", "http://a"), "http://a");
        assert_eq!(put("etc/kiwi.yml.d/10.yml", "http://c"), "http://c");
        assert_eq!(put("etc/kiwi.yml", "http://b"), "http://c");
        assert_eq!(put("home/.config/kiwi/config.yml", "http://d"), "http://d");
        // Case A4: --config.
        let config = root.path().join("own.yml");
        fs::write(&config, "obs:\n- download_url: http://e\n").unwrap();
        let url = obs_download_url(root.path(), Some(&home), Some(&config));
        assert_eq!(url.unwrap().unwrap(), "http://e");
    }
}
