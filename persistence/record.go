package persistence

// FormatVersion is the version of the files this release writes, and the newest
// that it reads.
const FormatVersion = 1
