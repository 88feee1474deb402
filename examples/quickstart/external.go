package main

import (
	"context"
	"fmt"
	"log/slog"
	"net"
	"net/url"
	"os"
	"time"

	"github.com/mooring-mqtt/mooring/client"
)

// Another broker: -broker mqtt://user:password@host:port. The proxies stand
// between, so it must speak MQTT over plain TCP. User and password reach the
// child processes in their environment.

const (
	userVariable     = "MOORING_QUICKSTART_USER"
	passwordVariable = "MOORING_QUICKSTART_PASSWORD"
)

// external looks at the -broker flag and makes sure that somebody is there.
func external(ctx context.Context, broker string) (hostPort string, err error) {
	u, err := url.Parse(broker)
	switch {
	case err != nil:
		return "", fmt.Errorf("-broker: %w", err)
	case u.Scheme != "mqtt" && u.Scheme != "tcp" || u.Hostname() == "":
		return "", fmt.Errorf("-broker %s: use mqtt://host:port; the proxies that cut the link need to see MQTT in the clear", u.Redacted())
	}
	if hostPort = u.Host; u.Port() == "" {
		hostPort = net.JoinHostPort(u.Hostname(), "1883")
	}
	if password, ok := u.User.Password(); ok {
		os.Setenv(passwordVariable, password)
	}
	os.Setenv(userVariable, u.User.Username())
	ctx, cancel := context.WithTimeout(ctx, 10*time.Second)
	defer cancel()
	conn, err := (&net.Dialer{}).DialContext(ctx, "tcp", hostPort)
	if err != nil {
		return "", fmt.Errorf("cannot reach -broker %s: %w", u.Redacted(), err)
	}
	return hostPort, conn.Close()
}

// credentials are those of the broker, if it wants any.
func credentials(cfg client.Config) client.Config {
	cfg.Connection.Username = os.Getenv(userVariable)
	if password, ok := os.LookupEnv(passwordVariable); ok {
		cfg.Connection.Password = []byte(password)
	}
	cfg.Logger = slog.New(slog.DiscardHandler) // the referee counts what is lost, and tellLink prints the rest
	return cfg
}

// leaveNothing ends our sessions at a broker that is not ours and clears the
// status topic.
func (s *stage) leaveNothing(hostPort string) error {
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	for _, role := range []string{"backend", "device"} {
		c, err := client.New(credentials(client.Config{
			Servers:  []string{"mqtt://" + hostPort},
			ClientID: s.o.prefix + "-" + role,
			Session:  client.SessionConfig{CleanStart: true, Expiry: client.NoSession},
		}))
		if err != nil {
			return err
		}
		defer c.Close()
		if err := c.Start(ctx); err != nil {
			return err
		}
		if err := c.AwaitConnection(ctx); err != nil {
			return err
		}
		if role == "device" {
			d, err := c.Publish(ctx, client.Message{Topic: s.o.prefix + "/status/device", QoS: client.AtLeastOnce, Retain: true})
			if err != nil {
				return err
			}
			if _, err := d.Wait(ctx); err != nil {
				return err
			}
		}
		if err := c.Close(); err != nil {
			return err
		}
	}
	return nil
}
