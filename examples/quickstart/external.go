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

// This file has the functions for another broker: -broker mqtt://user:password@host:port. The
// clients connect to it through proxies, so the broker must accept MQTT over plain TCP. The child
// processes receive user name and password in their environment.

const (
	userVariable     = "MOORING_QUICKSTART_USER"
	passwordVariable = "MOORING_QUICKSTART_PASSWORD"
)

// external parses the -broker flag and checks that the broker accepts connections.
func external(ctx context.Context, broker string) (hostPort string, err error) {
	u, err := url.Parse(broker)
	switch {
	case err != nil:
		return "", fmt.Errorf("-broker: %w", err)
	case u.Scheme != "mqtt" && u.Scheme != "tcp" || u.Hostname() == "":
		return "", fmt.Errorf("-broker %s: use mqtt://host:port; the proxies that cut the link cannot read encrypted connections", u.Redacted())
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

// credentials sets the user name and password for the broker, and discards the log.
func credentials(cfg client.Config) client.Config {
	cfg.Connection.Username = os.Getenv(userVariable)
	if password, ok := os.LookupEnv(passwordVariable); ok {
		cfg.Connection.Password = []byte(password)
	}
	cfg.Logger = slog.New(slog.DiscardHandler) // the referee counts lost messages, and reportEvent prints events
	return cfg
}

// cleanUp ends the sessions of device and backend at another broker, and removes the retained status.
func (s *stage) cleanUp(hostPort string) error {
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
