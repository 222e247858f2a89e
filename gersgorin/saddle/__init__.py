"""The plateau on which a network with small weights begins: how slowly it learns, of which order the saddle is, when it leaves."""
