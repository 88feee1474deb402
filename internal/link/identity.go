package link

import (
	"errors"
	"strings"
	"sync"
	"time"

	"github.com/mooring-mqtt/mooring/internal/wire"
)

// Identity is the Client Identifier and what is known of its session. It decides for each
// connection whether that session is resumed. What the store holds of a session under
// another Client Identifier is not this client's [MQTT-3.1.3-2]: the first CONNACK voids it.
type Identity struct {
	cfg     IdentityConfig
	resumes bool // the store knew a session when the process began
	before  bool // the store proves that a server accepted this client before the process began

	mu        sync.Mutex
	clientID  string
	discard   bool // the next CONNECT asks for a new session
	accepted  bool // there was a connection
	welcome   bool // there was a CONNACK that accepts
	expiry    time.Duration
	lastEnded time.Time // of the last connection; zero: it is up, or there was no connection
}

// IdentityConfig is what an Identity needs.
type IdentityConfig struct {
	ClientID   string        // empty: the server assigns one
	Temporary  bool          // the Client Identifier is not used again when the client has ended
	Expiry     time.Duration // Session Expiry Interval of CONNECT; 0: sessions end with their connections
	CleanStart bool          // the first connection asks for a new session
	Strict     bool          // stop where the server and the store do not know the same session
	Store      SessionStore
}

// SessionStore is what the store knows of a session.
type SessionStore interface {
	// Session returns the owner of the session, or OwnerTakenOver, and whether there is one.
	Session() (owner string, known bool)
}

// OwnerTakenOver is the owner of a session that another client has taken over.
const OwnerTakenOver = "\x00taken over"

// adoptedPrefix begins the owner of a session that another library, or a client with another store,
// began. No Client Identifier contains U+0000.
const adoptedPrefix = "\x00adopted "

// AdoptedOwner returns the owner of an adopted session of this Client Identifier, for the store.
func AdoptedOwner(clientID string) string { return adoptedPrefix + clientID }

// Owner returns the Client Identifier in an owner, and whether the session was adopted.
func Owner(owner string) (clientID string, adopted bool) {
	return strings.CutPrefix(owner, adoptedPrefix)
}

// maxOwner is the longest owner that a store takes.
const maxOwner = 65_535

// ErrUnknownSession: the server has a session that the store does not know.
var ErrUnknownSession = errors.New("client: the server has a session that the store does not know; asking for a new session")

// ErrSessionAdopted: it has, and the next connection resumes it. It is an ErrUnknownSession.
var ErrSessionAdopted error = adoptedError{}

type adoptedError struct{}

func (adoptedError) Error() string {
	return "client: the server has a session that the store does not know; resuming it"
}

func (adoptedError) Is(target error) bool { return target == ErrUnknownSession }

// SessionMismatchError: the server and the store do not know the same session.
type SessionMismatchError struct {
	Present bool   // the server has a session, and the store does not know it; else the reverse
	Owner   string // not empty: whose session the store knows; or OwnerTakenOver
}

func (e *SessionMismatchError) Error() string {
	return "client: the server and the store do not know the same session"
}

// NewIdentity returns an Identity that has not connected.
func NewIdentity(cfg IdentityConfig) *Identity {
	i := &Identity{cfg: cfg, clientID: cfg.ClientID}
	i.resumes = i.Known()
	owner, _ := cfg.Store.Session()
	i.before = i.resumes || owner == OwnerTakenOver
	return i
}

// Accepted reports whether a server has accepted this Client Identifier before: in this process, or
// in an earlier one with the same store. A store in memory does not know of earlier processes.
func (i *Identity) Accepted() bool {
	i.mu.Lock()
	defer i.mu.Unlock()
	return i.before || i.welcome
}

// ClientID returns the Client Identifier; empty until the server has assigned one.
func (i *Identity) ClientID() string {
	i.mu.Lock()
	defer i.mu.Unlock()
	return i.clientID
}

// Temporary reports whether the Client Identifier ends with the client.
func (i *Identity) Temporary() bool { return i.cfg.Temporary }

// Known reports whether the store knows a session of this client.
func (i *Identity) Known() bool {
	_, known := i.cfg.Store.Session()
	return known && i.foreignOwner() == ""
}

// foreignOwner is the owner of the session in the store, if that is not this client.
func (i *Identity) foreignOwner() string {
	owner, _ := i.cfg.Store.Session()
	if clientID, _ := Owner(owner); clientID != i.ClientID() {
		return clientID
	}
	return ""
}

// Expected reports whether the server should have a session of this client, from
// an earlier connection or from one of an earlier process.
func (i *Identity) Expected() bool {
	i.mu.Lock()
	defer i.mu.Unlock()
	if i.accepted {
		return i.expiry > 0
	}
	return i.resumes && i.cfg.Expiry > 0 && !i.cfg.CleanStart
}

// Session describes the session at the server as of now: whether it may exist, the
// Session Expiry Interval in force, and when it expires unless the client connects. The
// zero time means that it does not, or that this is not known.
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

// checkStore refuses, if Strict, a store that belongs to another Client Identifier.
func (i *Identity) checkStore() error {
	if owner := i.foreignOwner(); i.cfg.Strict && owner != "" && !i.cleanStart() {
		return &SessionMismatchError{Owner: owner}
	}
	return nil
}

// cleanStart is the Clean Start flag of the next CONNECT.
func (i *Identity) cleanStart() bool {
	i.mu.Lock()
	defer i.mu.Unlock()
	// Without a Client Identifier there is nothing to resume, and some servers refuse
	// a CONNECT that asks for it.
	return i.discard || i.clientID == "" || i.cfg.CleanStart && !i.accepted
}

// accept decides about a CONNACK that accepts, by its Session Present flag. On an
// error the connection must be closed before anything is sent.
//
// A session that the store does not know must not be resumed [MQTT-3.2.2-4]: the server
// could take new messages for duplicates of half received ones. After ErrSessionAdopted the
// caller records in the store that a session of which nothing is known was adopted, and the
// next attempt resumes it. After ErrUnknownSession the next attempt asks for a new session.
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

// adopts reports whether a session that the store does not know is resumed: not after another client
// has taken it over, and has used what the store knows, nor if it would end with the connection.
func (i *Identity) adopts() bool {
	owner, _ := i.cfg.Store.Session()
	return owner != OwnerTakenOver && i.cfg.Expiry > 0 && len(AdoptedOwner(i.ClientID())) <= maxOwner
}

// discardSession has the next CONNECT ask for a new session.
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
