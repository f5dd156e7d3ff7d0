"""``python -m fer_deploy`` is ``fer-deploy``."""

from fer_deploy.cli import main

if __name__ == "__main__":
    main()
