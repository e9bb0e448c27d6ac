"""What `python -m codebind_hf` runs: the command `codebind`."""

from codebind_hf.commands.app import main


if __name__ == "__main__":
    main()
