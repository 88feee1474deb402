package link

import (
	"errors"
	"strings"
	"sync"
	"time"

	"github.com/mooring-mqtt/mooring/internal/wire"
)

// Identity holds the Client Identifier and the known state of its session. It decides for each
// connection whether the session is resumed. If the store holds a session of another Client
// Identifier, that session does not belong to this client [MQTT-3.1.3-2], and the first CONNACK
// voids it.
type Identity struct {
	cfg     IdentityConfig
	resumes bool // the store knew a session when the process started
	before  bool // the store proves that a server accepted this client before the process started

	mu        sync.Mutex
	clientID  string
	discard   bool // the next CONNECT requests a new session
	accepted  bool // there was a connection in this process
	welcome   bool // there was an accepting CONNACK in this process
	expiry    time.Duration
	lastEnded time.Time // end of the last connection; zero: it is up, or there was none
}

// IdentityConfig configures an Identity.
type IdentityConfig struct {
	ClientID   string        // empty: the server assigns one
	Temporary  bool          // the Client Identifier is not reused after the client has ended
	Expiry     time.Duration // Session Expiry Interval of CONNECT; 0: a session ends with its connection
	CleanStart bool          // the first connection requests a new session
	Strict     bool          // stop if the server and the store do not know the same session
	Store      SessionStore
}

// SessionStore gives access to the session in the store.
type SessionStore interface {
	// Session returns the owner of the session, or OwnerTakenOver, and whether there is a session.
	Session() (owner string, known bool)
}

// OwnerTakenOver is the owner of a session that another client has taken over.
const OwnerTakenOver = "\x00taken over"

// adoptedPrefix is the prefix of the owner of an adopted session: another library, or a client with
// another store, began it. No Client Identifier contains U+0000.
const adoptedPrefix = "\x00adopted "

// AdoptedOwner returns the owner that the store records for an adopted session of this Client
// Identifier.
func AdoptedOwner(clientID string) string { return adoptedPrefix + clientID }

// Owner returns the Client Identifier in an owner, and whether the session was adopted.
func Owner(owner string) (clientID string, adopted bool) {
	return strings.CutPrefix(owner, adoptedPrefix)
}

// maxOwner is the maximum length of an owner in the store, in bytes.
const maxOwner = 65_535

// ErrUnknownSession means that the server has a session that the store does not know.
var ErrUnknownSession = errors.New("client: the server has a session that the store does not know; asking for a new session")

// ErrSessionAdopted means that the server has an unknown session and the next connection resumes
// it. It is an ErrUnknownSession.
var ErrSessionAdopted error = adoptedError{}

type adoptedError struct{}

func (adoptedError) Error() string {
	return "client: the server has a session that the store does not know; resuming it"
}

func (adoptedError) Is(target error) bool { return target == ErrUnknownSession }

// SessionMismatchError means that the server and the store do not know the same session.
type SessionMismatchError struct {
	Present bool   // true: only the server has a session; false: only the store has one
	Owner   string // owner of the session in the store, or OwnerTakenOver, if it belongs to another client
}

func (e *SessionMismatchError) Error() string {
	return "client: the server and the store do not know the same session"
}

// NewIdentity returns an Identity that has not been connected.
func NewIdentity(cfg IdentityConfig) *Identity {
	i := &Identity{cfg: cfg, clientID: cfg.ClientID}
	i.resumes = i.Known()
	owner, _ := cfg.Store.Session()
	i.before = i.resumes || owner == OwnerTakenOver
	return i
}

// Accepted reports whether a server has accepted this Client Identifier before, in this process or
// in an earlier one with the same store. An in-memory store does not know earlier processes.
func (i *Identity) Accepted() bool {
	i.mu.Lock()
	defer i.mu.Unlock()
	return i.before || i.welcome
}

// ClientID returns the Client Identifier. It is empty until the server has assigned one.
func (i *Identity) ClientID() string {
	i.mu.Lock()
	defer i.mu.Unlock()
	return i.clientID
}

// Temporary reports whether the Client Identifier is not reused after the client has ended.
func (i *Identity) Temporary() bool { return i.cfg.Temporary }

// Known reports whether the store knows a session of this client.
func (i *Identity) Known() bool {
	_, known := i.cfg.Store.Session()
	return known && i.foreignOwner() == ""
}

// foreignOwner returns the owner of the session in the store if that is another client, or "".
func (i *Identity) foreignOwner() string {
	owner, _ := i.cfg.Store.Session()
	if clientID, _ := Owner(owner); clientID != i.ClientID() {
		return clientID
	}
	return ""
}

// Expected reports whether the server should have a session of this client, from an earlier
// connection of this or an earlier process.
func (i *Identity) Expected() bool {
	i.mu.Lock()
	defer i.mu.Unlock()
	if i.accepted {
		return i.expiry > 0
	}
	return i.resumes && i.cfg.Expiry > 0 && !i.cfg.CleanStart
}

// Session describes the session at the server at the time now. It returns whether the session may
// exist, the Session Expiry Interval in force, and the time when the session expires unless the
// client connects. The zero time means that the session does not expire, or that the time is
// unknown.
func (i *Identity) Session(now time.Time) (mayExist bool, expiry time.Duration, expires time.Time) {
	i.mu.Lock()
	accepted, ended, expiry := i.accepted, i.lastEnded, i.expiry
	i.mu.Unlock()
	switch {
	case !accepted:
		return i.cfg.Expiry > 0 && !i.cfg.CleanStart && i.Known(), 0, time.Time{}
	case ended.IsZero(), expiry >= NeverExpires:
		return true, expiry, time.Time{}
	}
	expires = ended.Add(expiry)
	return now.Before(expires), expiry, expires
}

// NeverExpires is a Session Expiry Interval of 0xFFFFFFFF, section 3.1.2.11.2.
const NeverExpires = (1<<32 - 1) * time.Second

// checkStore returns an error if Strict is set and the store belongs to another Client Identifier.
func (i *Identity) checkStore() error {
	if owner := i.foreignOwner(); i.cfg.Strict && owner != "" && !i.cleanStart() {
		return &SessionMismatchError{Owner: owner}
	}
	return nil
}

// cleanStart returns the Clean Start flag of the next CONNECT.
func (i *Identity) cleanStart() bool {
	i.mu.Lock()
	defer i.mu.Unlock()
	// Without a Client Identifier there is no session to resume, and some servers refuse a CONNECT
	// that asks to resume one.
	return i.discard || i.clientID == "" || i.cfg.CleanStart && !i.accepted
}

// accept evaluates the Session Present flag of an accepting CONNACK. After an error, the caller
// must close the connection before anything is sent.
//
// A session that the store does not know must not be resumed [MQTT-3.2.2-4], because the server
// could treat new messages as duplicates of incomplete exchanges. After ErrSessionAdopted, the
// caller records in the store that a session of unknown content was adopted, and the next attempt
// resumes it. After ErrUnknownSession, the next attempt requests a new session.
func (i *Identity) accept(present bool) error {
	i.mu.Lock()
	i.welcome = true
	i.mu.Unlock()
	asked, known := i.cleanStart(), i.Known()
	switch {
	case present && asked:
		return wire.Violation(wire.CONNACK, "Session Present is 1 although Clean Start was 1 [MQTT-3.2.2-2]")
	case i.cfg.Strict && !asked && present != known:
		return &SessionMismatchError{Present: present}
	case present && !known && i.adopts():
		return ErrSessionAdopted
	case present && !known:
		i.discardSession()
		return ErrUnknownSession
	}
	return nil
}

// adopts reports whether a session that the store does not know is resumed. It is not resumed if
// another client has taken it over and used it, or if it would end with the connection.
func (i *Identity) adopts() bool {
	owner, _ := i.cfg.Store.Session()
	return owner != OwnerTakenOver && i.cfg.Expiry > 0 && len(AdoptedOwner(i.ClientID())) <= maxOwner
}

// discardSession makes the next CONNECT request a new session.
func (i *Identity) discardSession() {
	i.mu.Lock()
	defer i.mu.Unlock()
	i.discard = true
}

func (i *Identity) assign(clientID string) {
	i.mu.Lock()
	defer i.mu.Unlock()
	i.clientID = clientID
}

func (i *Identity) connected(up *Up) {
	i.mu.Lock()
	defer i.mu.Unlock()
	i.accepted, i.discard, i.expiry, i.lastEnded = true, false, up.SessionExpiry, time.Time{}
}

func (i *Identity) disconnected(up *Up) {
	i.mu.Lock()
	defer i.mu.Unlock()
	i.lastEnded = time.Now()
	if d := up.final.Load(); d != nil && d.SessionExpiry != nil {
		i.expiry = time.Duration(*d.SessionExpiry) * time.Second
	}
}
