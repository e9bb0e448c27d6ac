"""How does a folder come to the Hub? In one commit, so that nobody ever sees half of it."""

from pathlib import Path

from huggingface_hub import CommitOperationAdd, CommitOperationDelete, HfApi

from codebind_hf.publishing.staging import files_of


WEIGHTS = (".safetensors", ".safetensors.index.json", ".bin", ".bin.index.json")


def upload(folder: Path, repo_id: str, private: bool) -> str:
    """One commit with every file of `folder`: nobody ever sees half of it. Returns where it is.

    Raises:
        OSError: no network, no login, or no permission.
        ValueError: it should be private, and the repository is not.
    """
    api = HfApi()
    repo_id = api.create_repo(repo_id, private=private or None, exist_ok=True).repo_id
    # The Hub does not change a repository that exists.
    if private and not api.model_info(repo_id).private:
        raise ValueError(f"--private: {repo_id} exists and is public. Fix: make it private, or name a new one.")
    files = {path.relative_to(folder).as_posix(): path for path in files_of(folder)}
    operations: list = [CommitOperationAdd(name, path) for name, path in files.items()]
    # Older weights under other names, whole or in shards, would be found before these.
    present = [entry.rfilename for entry in api.model_info(repo_id).siblings or []]
    operations += [CommitOperationDelete(name) for name in present if name.endswith(WEIGHTS) and name not in files]
    return api.create_commit(repo_id, operations, commit_message="Upload weights, JSON and card").commit_url
