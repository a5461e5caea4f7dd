"""How tables are stored: immutable files, one manifest per publication, one pointer per partition; gates stay out."""
