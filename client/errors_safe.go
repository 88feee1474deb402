package client

// The answers of this package's errors to reliability.SafeToRetry. Errors without a
// method are not safe, unless they wrap one that is.

// SafeToRetry returns true: nothing was stored or sent.
func (*FieldError) SafeToRetry() bool { return true }

// SafeToRetry returns true: nothing was started.
func (*ConfigError) SafeToRetry() bool { return true }

// SafeToRetry returns true, as the server has not accepted the message or the
// subscription, except for the reason codes that concern a packet identifier: the
// server may have the message under it.
func (e *RefusedError) SafeToRetry() bool { return e.Code != 0x91 && e.Code != 0x92 }

// SafeToRetry returns true: only messages that were not sent are dropped.
func (*DroppedError) SafeToRetry() bool { return true }

// SafeToRetry returns false: the server may have processed the message.
func (*PoisonError) SafeToRetry() bool { return false }

// SafeToRetry returns false: an earlier process may have sent a message of QoS 1.
func (*ExpiredError) SafeToRetry() bool { return false }

// SafeToRetry returns false: the message may have been sent before it was damaged.
func (*DamagedError) SafeToRetry() bool { return false }

// SafeToRetry returns false: the store keeps the messages.
func (*DrainError) SafeToRetry() bool { return false }

// SafeToRetry returns false: messages may have been sent on the connection.
func (*ConnectionError) SafeToRetry() bool { return false }

// SafeToRetry returns false: messages may have been sent on the connection.
func (*AuthError) SafeToRetry() bool { return false }

// SafeToRetry returns true: there was no connection.
func (*TLSFileError) SafeToRetry() bool { return true }

// SafeToRetry returns true: there was no connection.
func (*ProxyError) SafeToRetry() bool { return true }

// SafeToRetry returns true: there was no connection.
func (*CredentialsError) SafeToRetry() bool { return true }

// SafeToRetry returns true: retained messages were only read.
func (*RetainedLimitError) SafeToRetry() bool { return true }

// SafeToRetry returns true: nothing was sent.
func (noneToAuthenticate) SafeToRetry() bool { return true }
