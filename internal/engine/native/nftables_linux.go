package native

import (
	"net/netip"

	"casemate.dev/internal/gate/wire"
	"golang.org/x/sys/unix"
)

const (
	nftTable    = "casemate"
	chainDirect = "redirect" // of what a program inside connects to
	chainReject = "reject"   // of all else that it sends
)

// Redirects are the messages that lead every connection to the gate (netlink(7), NETLINK_NETFILTER): what nft(8) would make of:
//
//	table inet casemate {
//	    chain redirect {
//	        type nat hook output priority -100
//	        ip  daddr != { 127.0.0.0/8, HostV4 } meta l4proto tcp redirect to :GatePort
//	        ip6 daddr != { ::1, HostV6 }         meta l4proto tcp redirect to :GatePort
//	    }
//	    chain reject {
//	        type filter hook output priority 0
//	        ip  daddr != { 127.0.0.0/8, HostV4 } reject with icmpx port-unreachable
//	        ip6 daddr != { ::1, HostV6 }         reject with icmpx port-unreachable
//	    }
//	}
//
// The second chain comes after the first, so it sees redirected connections on their way to loopback, and lets them pass.
func Redirects(ipv6 bool) []byte {
	b := netlinkMessages{}
	b.batch(unix.NFNL_MSG_BATCH_BEGIN)
	b.nft(unix.NFT_MSG_NEWTABLE, unix.NLM_F_CREATE)
	b.text(unix.NFTA_TABLE_NAME, nftTable)
	b.chain(chainDirect, "nat", -100)
	b.chain(chainReject, "filter", 0)
	families := []byte{unix.NFPROTO_IPV4}
	if ipv6 {
		families = append(families, unix.NFPROTO_IPV6)
	}
	for _, family := range families {
		b.rule(chainDirect, func() {
			b.elsewhere(family)
			b.meta(unix.NFT_META_L4PROTO)
			b.compare(unix.NFT_CMP_EQ, []byte{unix.IPPROTO_TCP})
			b.redirect(wire.GatePort)
		})
		b.rule(chainReject, func() {
			b.elsewhere(family)
			b.reject()
		})
	}
	b.answered()
	b.batch(unix.NFNL_MSG_BATCH_END)
	b.end()
	return b.bytes
}

// batch brackets what is to be done as a whole or not at all.
func (b *netlinkMessages) batch(kind uint16) {
	b.begin(kind, 0)
	b.raw(unix.AF_UNSPEC, unix.NFNETLINK_V0)
	b.bytes = network16(b.bytes, unix.NFNL_SUBSYS_NFTABLES)
}

func (b *netlinkMessages) nft(kind, flags uint16) {
	b.begin(unix.NFNL_SUBSYS_NFTABLES<<8|kind, flags)
	b.raw(unix.NFPROTO_INET, unix.NFNETLINK_V0, 0, 0)
}

func (b *netlinkMessages) text(kind uint16, s string) { b.attr(kind, append([]byte(s), 0)) }
func (b *netlinkMessages) number(kind uint16, v uint32) {
	b.attr(kind, network32(nil, v))
}

func (b *netlinkMessages) chain(name, kind string, priority int32) {
	b.nft(unix.NFT_MSG_NEWCHAIN, unix.NLM_F_CREATE)
	b.text(unix.NFTA_CHAIN_TABLE, nftTable)
	b.text(unix.NFTA_CHAIN_NAME, name)
	b.nest(unix.NFTA_CHAIN_HOOK|unix.NLA_F_NESTED, func() {
		b.number(unix.NFTA_HOOK_HOOKNUM, unix.NF_INET_LOCAL_OUT)
		b.number(unix.NFTA_HOOK_PRIORITY, uint32(priority))
	})
	b.text(unix.NFTA_CHAIN_TYPE, kind)
}

func (b *netlinkMessages) rule(chain string, expressions func()) {
	b.nft(unix.NFT_MSG_NEWRULE, unix.NLM_F_CREATE|unix.NLM_F_APPEND)
	b.text(unix.NFTA_RULE_TABLE, nftTable)
	b.text(unix.NFTA_RULE_CHAIN, chain)
	b.nest(unix.NFTA_RULE_EXPRESSIONS|unix.NLA_F_NESTED, expressions)
}

func (b *netlinkMessages) expression(name string, data func()) {
	b.nest(unix.NFTA_LIST_ELEM|unix.NLA_F_NESTED, func() {
		b.text(unix.NFTA_EXPR_NAME, name)
		b.nest(unix.NFTA_EXPR_DATA|unix.NLA_F_NESTED, data)
	})
}

// elsewhere goes on only with packets of the family that are not for loopback or the machine's own address.
func (b *netlinkMessages) elsewhere(family byte) {
	b.meta(unix.NFT_META_NFPROTO)
	b.compare(unix.NFT_CMP_EQ, []byte{family})
	if family == unix.NFPROTO_IPV4 {
		const destination = 16 // offset in the IPv4 header (RFC 791)
		b.payload(destination, 1)
		b.compare(unix.NFT_CMP_NEQ, []byte{127})
		b.payload(destination, 4)
		b.compare(unix.NFT_CMP_NEQ, netip.MustParseAddr(wire.HostV4).AsSlice())
		return
	}
	const destination = 24 // offset in the IPv6 header (RFC 8200)
	for _, own := range []string{wire.Loopback6, wire.HostV6} {
		b.payload(destination, 16)
		b.compare(unix.NFT_CMP_NEQ, netip.MustParseAddr(own).AsSlice())
	}
}

func (b *netlinkMessages) meta(key uint32) {
	b.expression("meta", func() {
		b.number(unix.NFTA_META_KEY, key)
		b.number(unix.NFTA_META_DREG, unix.NFT_REG_1)
	})
}

func (b *netlinkMessages) payload(offset, length uint32) {
	b.expression("payload", func() {
		b.number(unix.NFTA_PAYLOAD_DREG, unix.NFT_REG_1)
		b.number(unix.NFTA_PAYLOAD_BASE, unix.NFT_PAYLOAD_NETWORK_HEADER)
		b.number(unix.NFTA_PAYLOAD_OFFSET, offset)
		b.number(unix.NFTA_PAYLOAD_LEN, length)
	})
}

func (b *netlinkMessages) compare(how uint32, value []byte) {
	b.expression("cmp", func() {
		b.number(unix.NFTA_CMP_SREG, unix.NFT_REG_1)
		b.number(unix.NFTA_CMP_OP, how)
		b.nest(unix.NFTA_CMP_DATA|unix.NLA_F_NESTED, func() { b.attr(unix.NFTA_DATA_VALUE, value) })
	})
}

func (b *netlinkMessages) redirect(port uint16) {
	b.expression("immediate", func() {
		b.number(unix.NFTA_IMMEDIATE_DREG, unix.NFT_REG_1)
		b.nest(unix.NFTA_IMMEDIATE_DATA|unix.NLA_F_NESTED, func() { b.attr(unix.NFTA_DATA_VALUE, network16(nil, port)) })
	})
	b.expression("redir", func() { b.number(unix.NFTA_REDIR_REG_PROTO_MIN, unix.NFT_REG_1) })
}

func (b *netlinkMessages) reject() {
	b.expression("reject", func() {
		b.number(unix.NFTA_REJECT_TYPE, unix.NFT_REJECT_ICMPX_UNREACH)
		b.attr(unix.NFTA_REJECT_ICMP_CODE, []byte{unix.NFT_REJECT_ICMPX_PORT_UNREACH})
	})
}
