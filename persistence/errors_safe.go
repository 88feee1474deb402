package persistence

// The answers of this package's errors to reliability.SafeToRetry. Errors without a
// method are not safe.

// SafeToRetry returns true: nothing was stored.
func (*FullError) SafeToRetry() bool { return true }

// SafeToRetry returns true: nothing was stored.
func (*PacketTooLargeError) SafeToRetry() bool { return true }

// SafeToRetry returns false: what was written may be found when the log is opened.
func (*FailedError) SafeToRetry() bool { return false }

// SafeToRetry returns true: nothing was opened.
func (*LockedError) SafeToRetry() bool { return true }

// SafeToRetry returns true: nothing was opened.
func (*FolderError) SafeToRetry() bool { return true }

// SafeToRetry returns true: nothing was opened.
func (*VersionError) SafeToRetry() bool { return true }

// SafeToRetry returns true: nothing was opened.
func (*OptionError) SafeToRetry() bool { return true }

// SafeToRetry returns true: the message is still pending.
func (*ReadError) SafeToRetry() bool { return true }
