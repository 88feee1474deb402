package client

// The answers of this package's errors to reliability.SafeToRetry. Errors without a
// method are not safe, unless they wrap one that is.

// SafeToRetry returns true: nothing was stored, sent or started.
func (*FieldError) SafeToRetry() bool        { return true }
func (*ConfigError) SafeToRetry() bool       { return true }
func (noneToAuthenticate) SafeToRetry() bool { return true }

// SafeToRetry returns true: there was no connection.
func (*TLSFileError) SafeToRetry() bool     { return true }
func (*ProxyError) SafeToRetry() bool       { return true }
func (*CredentialsError) SafeToRetry() bool { return true }

// SafeToRetry returns true, as the server has not accepted the message or the
// subscription, except for the reason codes that concern a packet identifier: the
// server may have the message under it.
func (e *RefusedError) SafeToRetry() bool { return e.Code != 0x91 && e.Code != 0x92 }

// SafeToRetry returns true: only messages that were not sent are dropped.
func (*DroppedError) SafeToRetry() bool { return true }

// SafeToRetry returns true: retained messages were only read.
func (*RetainedLimitError) SafeToRetry() bool { return true }

// SafeToRetry returns false: the server may have received messages, this process or an
// earlier one may have sent them, or the store keeps them.
func (*PoisonError) SafeToRetry() bool     { return false }
func (*ExpiredError) SafeToRetry() bool    { return false }
func (*DamagedError) SafeToRetry() bool    { return false }
func (*DrainError) SafeToRetry() bool      { return false }
func (*ConnectionError) SafeToRetry() bool { return false }
func (*AuthError) SafeToRetry() bool       { return false }
