ÐH
