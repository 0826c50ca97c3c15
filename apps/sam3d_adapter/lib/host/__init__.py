"""What stands between MONAI Label and the app: patches of its defects, PACS, uploads, the log, starting the server."""
