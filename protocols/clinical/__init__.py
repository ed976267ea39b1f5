"""Clinical protocols as versioned documents, and their judgement."""
