"""The harness: what is measured (cases), how (meters), what was claimed (claims), and what came out (report)."""
