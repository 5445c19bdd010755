"""The door: files, DICOM tags, hashes, paths and peers stay here."""
